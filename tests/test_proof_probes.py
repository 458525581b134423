"""One-hot probes: exact, over all places or a spread that no exchange of axes can pass."""

from __future__ import annotations

from itertools import permutations
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import convsurgeon as cs
from convsurgeon.proof import probes
from convsurgeon.proof.probes import AFFORDABLE, places
from tests.proof_pairs import (
    BIAS,
    SIZES,
    WEIGHT,
    Array,
    Case,
    build,
    change,
    flip,
    function_alone,
    stored,
)

ROWS = AFFORDABLE  # so many that nothing is affordable


@given(st.lists(st.integers(1, 5), min_size=2, max_size=4), st.integers(1, 50))
def test_all_places_where_they_are_affordable(shape: list[int], rows: int) -> None:
    assert places(tuple(shape), rows) == tuple(range(prod(shape)))


@given(st.lists(st.integers(1, 5), min_size=2, max_size=4))
def test_a_spread_notices_every_order_of_the_axes(shape: list[int]) -> None:
    spread = places(tuple(shape), ROWS)
    assert len(spread) <= 2 * len(shape) + 2
    index = np.arange(prod(shape)).reshape(shape)
    for order in permutations(range(len(shape))):
        moved = index.transpose(order).flatten()
        if not np.array_equal(moved, index.flatten()):
            assert any(moved[place] != place for place in spread)


def test_a_spread_fills_what_can_be_afforded() -> None:
    shape, rows = (512, 7, 7), 4096
    spread = places(shape, rows)
    assert len(spread) <= AFFORDABLE // (rows * prod(shape)) <= 2 * len(spread)
    assert spread == places(shape, rows)  # the same on every machine
    assert max(spread) - min(spread) > prod(shape) // 2
    assert len(places((1280, 1, 1), 1280)) == 1280
    assert places(shape, rows, exhaustive=True) == tuple(range(prod(shape)))


@pytest.fixture
def sampled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Path, Path]:
    monkeypatch.setattr(probes, "AFFORDABLE", 8 * 24)
    return build(tmp_path, Case((8, 6, 2, 2), layout="p1 p2 c"))


def test_sampled_work_is_called_sampled(sampled: tuple[Path, Path]) -> None:
    verdict = cs.verify(*sampled)
    (layer,) = verdict.files[0].layers
    assert layer.function is not None
    assert 0 < layer.function.probes.tried < layer.function.probes.places == 24
    assert verdict.equivalent
    assert verdict.sampled
    assert [verdict.exit_code(), verdict.exit_code(strict=True)] == [0, 4]
    assert verdict.to_json()["sampled"] is True
    whole = cs.verify(*sampled, exhaustive=True)
    assert not whole.sampled
    assert whole.exit_code(strict=True) == 0


def test_a_refutation_is_a_refutation_also_where_it_was_sampled(
    sampled: tuple[Path, Path],
) -> None:
    verdict = cs.verify(sampled[0], change(sampled[1], lambda a: a[::-1]))
    assert verdict.exit_code(strict=True) == 1


def test_swap_is_done_in_part_where_a_proof_was_sampled(
    sampled: tuple[Path, Path], tmp_path: Path
) -> None:
    def code(verify: str) -> int:
        out = tmp_path / f"{verify}.safetensors"
        report = cs.swap(sampled[0], out, verify=verify, geometry=["proj=s2"])
        return report.exit_code(strict=True)

    assert {verify: code(verify) for verify in ("full", "bits", "exhaustive")} == {
        "full": 4,
        "bits": 0,
        "exhaustive": 0,
    }


CASES = [
    Case((4, 3, 2, 2), to, layout, dtype)
    for dtype in SIZES
    for to, layout in (("linear", "p1 p2 c"), ("conv", "c p1 p2"))
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[Case, tuple[Path, Path]]:
    return {case: build(tmp_path_factory.mktemp("pair"), case) for case in CASES}


@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(case=st.sampled_from(CASES), data=st.data())
def test_the_last_bit_of_any_weight_or_bias_is_seen(
    made: dict[Case, tuple[Path, Path]], case: Case, data: st.DataObject
) -> None:
    original, swapped = made[case]
    key = data.draw(st.sampled_from([WEIGHT, BIAS]))
    count = prod(case.conv) if key == WEIGHT else case.conv[0]
    element = data.draw(st.integers(0, count - 1))
    found = function_alone(original, flip(swapped, key, element * 8 * SIZES[case.dtype]))
    assert not found.equal
    assert found.probes.differing >= 1


SPECIAL = {"inf": 0x7F800000, "minus inf": 0xFF800000, "nan": 0x7FC00000}


@pytest.mark.parametrize("name", SPECIAL)
def test_what_is_not_finite_is_seen_and_hides_nothing(name: str, tmp_path: Path) -> None:
    weight = torch.randn((4, 3, 2, 2), generator=torch.Generator().manual_seed(1))
    weight[1, 2, 0, 1] = torch.tensor(SPECIAL[name], dtype=torch.uint32).view(torch.float32)
    original, swapped = build(tmp_path, Case((4, 3, 2, 2)), stored(weight, "F32"))
    assert function_alone(original, swapped).probes.equal

    def other(array: Array) -> Array:
        flat = array.reshape(-1)
        place = int(np.flatnonzero(flat == SPECIAL[name])[0])
        flat[place] = next(v for k, v in SPECIAL.items() if k != name)
        return array

    # Another special value in its place, and another weight of the same row.
    assert not function_alone(original, change(swapped, other)).probes.equal
    for element in (12, 23):
        assert not function_alone(original, flip(swapped, WEIGHT, 32 * element)).probes.equal


def test_a_verdict_can_be_required(tmp_path: Path) -> None:
    original, swapped = build(tmp_path, Case((2, 1, 2, 2)))
    verdict = cs.verify(original, swapped)
    assert verdict.require() is verdict
    wrong = cs.verify(original, change(swapped, lambda a: a[::-1]))
    with pytest.raises(cs.ConvsurgeonError, match=r"not equivalent: proj: 8 of 8 .*\[CS083\]"):
        wrong.require()
