"""A true swap is never called different, whatever the numbers are; digests alone say less."""

from __future__ import annotations

import tempfile
from math import prod
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import convsurgeon as cs
from convsurgeon.errors import RecipeError
from tests.cli_helpers import Tensor, f32, read, write
from tests.proof_pairs import (
    SIZES,
    WEIGHT,
    Case,
    build,
    change,
    flip,
    function_alone,
    recorded,
    stored,
)

SPECIAL = {
    "zeros": [0.0, -0.0],
    "infinite": [1.0, float("inf")],
    "both infinities": [1.0, float("inf"), float("-inf")],
    "nan": [1.0, -1.0, float("nan")],
    "denormal": [1e-310, -3e-320, 5e-324],
    "tiny": [2.3e-308, -1e-300, 1.7e-307],
    "huge": [1.7e308, -1.7e308, 9e307],
    "huge and tiny": [1.7e308, 5e-324, 1.0, -1.6e308],
}


@st.composite
def cases(draw: st.DrawFn) -> Case:
    kernel = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    shape = (draw(st.integers(1, 5)), draw(st.integers(1, 5)), *kernel)
    layout = draw(st.sampled_from(["c p1 p2", "p1 p2 c"]))
    to = draw(st.sampled_from(["linear", "conv"]))
    return Case(shape, to, layout, draw(st.sampled_from(list(SIZES))))


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(case=cases(), data=st.data())
def test_any_bytes_in_any_geometry(case: Case, data: st.DataObject) -> None:
    count = prod(case.conv) * SIZES[case.dtype]
    content = data.draw(st.binary(min_size=count, max_size=count) | st.none())
    weight = None if content is None else Tensor(case.dtype, case.source, content)
    with tempfile.TemporaryDirectory() as folder:
        original, swapped = build(Path(folder), case, weight)
        verdict = cs.verify(original, swapped)
        assert verdict.equivalent, verdict.files[0].complaints
        assert recorded(swapped).equivalent


@pytest.mark.parametrize("layout", ["c p1 p2", "p1 p2 c"])
@pytest.mark.parametrize("to", ["linear", "conv"])
@pytest.mark.parametrize("name", SPECIAL)
def test_special_values(name: str, to: str, layout: str, tmp_path: Path) -> None:
    case = Case((6, 5, 3, 3), to, layout, "F64")
    chosen = torch.randint(
        len(SPECIAL[name]), case.source, generator=torch.Generator().manual_seed(1)
    )
    weight = torch.tensor(SPECIAL[name], dtype=torch.float64)[chosen]
    original, swapped = build(tmp_path, case, stored(weight, "F64"))
    verdict = cs.verify(original, swapped)
    assert verdict.equivalent, verdict.files[0].complaints
    mutant = flip(swapped, WEIGHT, 63)
    assert not cs.verify(original, mutant, function=False).equivalent


def test_huge_weights_that_move_are_seen_by_the_function_proof(tmp_path: Path) -> None:
    case = Case((4, 2, 2, 2), dtype="F64")
    draw = torch.Generator().manual_seed(3)
    weight = torch.randn(case.source, generator=draw, dtype=torch.float64) * 1e307
    original, swapped = build(tmp_path, case, stored(weight, "F64"))
    assert function_alone(original, swapped).equal
    assert not function_alone(original, change(swapped, lambda a: a[[1, 0, 2, 3]])).equal


def test_a_nan_payload_and_the_sign_of_a_zero_are_bits(tmp_path: Path) -> None:
    weight = torch.zeros(2, 1, 2, 2)
    weight[0, 0, 0, 0] = float("nan")
    original, swapped = build(tmp_path, Case((2, 1, 2, 2)), stored(weight, "F32"))
    for bit in (0, 31, 63):  # payload, sign of the NaN, sign of a zero
        mutant = flip(swapped, WEIGHT, bit)
        assert function_alone(original, mutant).equal
        verdict = cs.verify(original, mutant)
        assert not verdict.equivalent
        assert verdict.files[0].complaints[0].startswith("proj: 1 of 8 elements differ")


def test_figures_that_are_not_finite_are_null_in_json(tmp_path: Path) -> None:
    weight = torch.full((2, 1, 2, 2), 60000.0)
    original, swapped = build(tmp_path, Case((2, 1, 2, 2), dtype="F16"), stored(weight, "F16"))
    (layer,) = cs.verify(original, swapped).to_json()["files"][0]["layers"]
    assert layer["floats"]["before"]["absolute"] is None
    assert layer["function"]["equal"] is True


def test_a_swapped_file_alone_is_held_against_its_digests(tmp_path: Path) -> None:
    original, swapped = build(tmp_path, Case((12, 3, 2, 2), layout="p1 p2 c"))
    alone = cs.verify(swapped)
    assert (alone.equivalent, alone.scope) == (True, "rewritten")
    assert cs.verify(original, swapped).scope == "file"
    # Other tensors are out of its scope: that is what the scope says.
    assert cs.verify(flip(swapped, "before.weight", 5)).equivalent
    assert not cs.verify(change(swapped, lambda a: a.T)).equivalent


@pytest.mark.parametrize("dtype", ["I32", "U32"])
def test_a_recipe_about_integers_is_refused(dtype: str, tmp_path: Path) -> None:
    original, swapped = build(tmp_path, Case((2, 1, 2, 2)))
    paths = []
    for path in (original, swapped):
        tensors, metadata = read(path)
        tensors[WEIGHT] = tensors[WEIGHT]._replace(dtype=dtype)
        paths.append(write(path.with_name(f"{dtype}.{path.name}"), tensors, metadata))
    with pytest.raises(RecipeError, match="CS082"):
        cs.verify(*paths)


def test_the_digest_is_part_of_the_proof(tmp_path: Path) -> None:
    original, swapped = build(tmp_path, Case((2, 1, 2, 2)))
    tensors, metadata = read(swapped)
    digest = metadata["convsurgeon"].partition('"sha256":"')[2][:64]
    metadata["convsurgeon"] = metadata["convsurgeon"].replace(digest, "0" * 64)
    verdict = cs.verify(original, write(tmp_path / "m.safetensors", tensors, metadata))
    assert verdict.files[0].complaints == ("proj: the recipe's digest is not that of the original",)


def test_files_without_a_recipe(tmp_path: Path) -> None:
    original, swapped = build(tmp_path, Case((2, 1, 2, 2)))
    tensors, metadata = read(swapped)
    bare = {k: v for k, v in metadata.items() if k != "convsurgeon"}
    stripped = write(tmp_path / "bare.safetensors", tensors, bare)
    with pytest.raises(RecipeError, match="CS081"):
        cs.verify(original, stripped)
    with pytest.raises(RecipeError, match="CS081"):
        cs.verify(original)
    verdict = cs.verify(swapped, stripped)
    assert not verdict.equivalent
    assert "recipe" in verdict.files[0].complaints[0]


def test_a_verdict_is_no_boolean(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"a": f32((2,))})
    with pytest.raises(TypeError, match="equivalent"):
        bool(cs.verify(path, path))
