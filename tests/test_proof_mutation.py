"""Damaged files by the thousand: what is true about each is known, and every proof has to say it.

The mutants are those of benchmarks/mutation, which finds out what is true without the package.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mutants import SEED, alarms, enough, figures, main, report
from mutation.alarms import sound
from mutation.cases import CYCLE, LAYOUTS, RULES, Case, case, original, swapped
from mutation.content import RECIPE, Content, pack, unpack
from mutation.files import CONTROLS
from mutation.floats import FORMATS, codes, values
from mutation.judge import judged, prepare
from mutation.judged import Judged
from mutation.kind import Subject
from mutation.mutants import GROUPS, KINDS, Mutant, damaged, mutants
from mutation.oracle import Finding, Truth, find

import convsurgeon as cs
from convsurgeon.proof import Bits, FileVerdict, Verdict, bits, ranges
from tests.proof_pairs import TORCH

MUTANTS, KILLED_BY_FUNCTION = 20_000, 5_000
BLOCKS = 12
SWAPS, SWAPS_IN_ALL = 2_000, 10_000


def in_block(block: int) -> range:
    """Numbers of the cases of a block: ten in a row, so that each block has every dtype."""
    return range(CYCLE // BLOCKS * block, CYCLE // BLOCKS * (block + 1))


def test_there_are_enough_mutants_of_every_kind() -> None:
    everything = [[m for n in in_block(b) for m in mutants(case(n, SEED))] for b in range(BLOCKS)]
    found = Counter(mutant.kind for block in everything for mutant in block)
    assert found.keys() == KINDS.keys()
    # The test below lets at most a twentieth of a block be no mutants, since they hit nothing.
    assert 0.95 * found.total() >= MUTANTS
    cases = [case(number, SEED) for number in range(CYCLE)]
    assert {(c.rule, len(c.conv), c.dtype) for c in cases} == {
        (rule, rank, dtype) for rule in RULES for rank in (3, 4, 5) for dtype in FORMATS
    }
    assert {(c.rule, c.layout) for c in cases} == {(r, o) for r in RULES for o in LAYOUTS}
    assert {len(c.modules) for c in cases} == {1, 2}
    assert {(c.bias, c.plain) for c in cases} == {(a, b) for a in (0, 1) for b in (0, 1)}


def check(found: list[Judged]) -> Counter[str]:
    assert [str(one) for one in found if one.survived] == []
    return figures(found)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_no_mutant_survives(block: int, tmp_path: Path) -> None:
    counted = check(list(judged(tmp_path, in_block(block), SEED)))
    assert counted["hit nothing"] < counted["mutants"] / 20
    assert counted["function alone says no"] >= KILLED_BY_FUNCTION / BLOCKS


@pytest.mark.parametrize("number", [40, 45])
def test_no_mutant_is_missed_in_small_pieces(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in files that are larger than what is read at once: a few rows, a few bytes."""
    monkeypatch.setattr(bits, "_BLOCK", 40)
    monkeypatch.setattr(ranges, "COMPARED", 5)
    monkeypatch.setattr(ranges, "SHARE", 15)
    check(list(judged(tmp_path, [number], SEED)))


def test_what_differs_in_all_pieces_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bits, "_BLOCK", 1)  # a row at a time
    prepared = prepare(tmp_path, BIASED)
    weight = prepared.subject.after.tensors["proj.weight"]
    width = len(weight.data) // weight.shape[0]
    data = bytearray(weight.data)
    for row in range(weight.shape[0]):
        data[row * width] ^= 1
    damaged = prepared.subject.after.having(**{"proj.weight": weight._replace(data=bytes(data))})
    path = tmp_path / "mutant.safetensors"
    path.write_bytes(pack(damaged))
    layer = cs.verify(prepared.before, path, function=False).files[0].layers[0]
    assert layer.bits.differing == weight.shape[0] > 1
    assert layer.bits.note.endswith("the first is number 0")


def verdict_on(tmp_path: Path, of: Case, wanted: Callable[[Mutant], bool]) -> FileVerdict:
    """What all proofs together say about the first mutant that is wanted."""
    prepared = prepare(tmp_path, of)
    path = tmp_path / "mutant.safetensors"
    path.write_bytes(damaged(prepared.subject, next(filter(wanted, mutants(of)))))
    return cs.verify(prepared.before, path).files[0]


def test_a_bias_is_seen_by_the_function_and_by_its_bytes(tmp_path: Path) -> None:
    found = verdict_on(tmp_path, BIASED, lambda mutant: mutant.parameters[:1] == ("proj.bias",))
    layer = found.layers[0]
    assert layer.bits.equal
    assert layer.function is not None
    assert not layer.function.equal
    assert "tensor proj.bias has other bytes" in found.complaints
    assert not found.equivalent


def test_a_new_nan_is_seen_on_random_inputs_too(tmp_path: Path) -> None:
    layer = verdict_on(tmp_path, BIASED, lambda mutant: mutant.kind == "an element NaN").layers[0]
    assert layer.function is not None
    assert not layer.function.within
    assert not layer.function.probes.equal


def test_nothing_compared_is_not_equivalent() -> None:
    assert not Verdict(()).equivalent


@pytest.mark.long
@pytest.mark.parametrize("block", range(BLOCKS))
def test_no_mutant_survives_in_the_other_layout_and_with_another_seed(
    block: int, tmp_path: Path
) -> None:
    numbers = [CYCLE + number for number in in_block(block)]
    check(list(judged(tmp_path, numbers, SEED + block)))


def no_alarm(work: Path, numbers: range) -> None:
    found = list(sound(work, numbers, SEED))
    assert [one for one in found if one.called_different] == []
    assert len({one.of.conv for one in found}) > len(found) / 2


@pytest.mark.parametrize("block", range(BLOCKS))
def test_no_true_swap_is_called_different(block: int, tmp_path: Path) -> None:
    no_alarm(tmp_path, range(block, SWAPS, BLOCKS))


@pytest.mark.long
@pytest.mark.parametrize("block", range(BLOCKS))
def test_no_true_swap_of_many_is_called_different(block: int, tmp_path: Path) -> None:
    no_alarm(tmp_path, range(SWAPS + block, SWAPS_IN_ALL, BLOCKS))


# What is true is known well: the generator and its oracle, held against torch and against hand.


@pytest.mark.parametrize("dtype", FORMATS)
def test_the_numbers_of_a_dtype_are_those_of_torch(dtype: str) -> None:
    count = 1 << min(FORMATS[dtype].bits, 16)
    step = (1 << FORMATS[dtype].bits) // count
    elements = np.arange(count, dtype=f"<u{FORMATS[dtype].bits // 8}") * np.uint64(step)
    data = elements.astype(f"<u{FORMATS[dtype].bits // 8}").tobytes()
    names = {"F8_E5M2FNUZ": torch.float8_e5m2fnuz, "F8_E4M3FNUZ": torch.float8_e4m3fnuz}
    kind = {**TORCH, "F8_E5M2": torch.float8_e5m2, **names}[dtype]
    expected = torch.frombuffer(bytearray(data), dtype=kind).to(torch.float64).numpy()
    assert np.array_equal(values(codes(data, dtype), dtype), expected, equal_nan=True)


BIASED = next(c for n in range(CYCLE) if (c := case(n, SEED)).bias and c.dtype == "F32" and c.plain)


def content(*, first: tuple[float, ...] = (), bias: tuple[float, ...] = ()) -> Content:
    """A swapped file whose first elements are given."""
    found = swapped(BIASED)
    for name, given in (("proj.weight", first), ("proj.bias", bias)):
        data = np.array(given, "<f4").tobytes() + found.tensors[name].data[4 * len(given) :]
        found = found.having(**{name: found.tensors[name]._replace(data=data)})
    step = {"layout": "c p1 p2", "geometry": {"stride": [2], "padding": [0], "dilation": [1]}}
    text = f'{{"tool": "x", "original": {{"name": "o"}}, "steps": [{step}]}}'.replace("'", '"')
    return found.saying(**{RECIPE: text})


NAN = float("nan")
FOUND: dict[str, tuple[Content, Content, Finding]] = {
    "the same": (content(), content(), Finding(Truth.SAME)),
    "sign of a zero": (
        content(first=(0.0,)), content(first=(-0.0,)), Finding(Truth.SAME_FUNCTION, weights=True),
    ),
    "another NaN": (
        content(first=(NAN,)), content(first=(-NAN,)), Finding(Truth.SAME_FUNCTION, weights=True),
    ),
    "a number": (
        content(first=(1.0,)), content(first=(2.0,)), Finding(Truth.OTHER_FUNCTION, weights=True),
    ),
    "a number for a NaN": (
        content(first=(NAN,)), content(first=(2.0,)), Finding(Truth.OTHER_FUNCTION, weights=True),
    ),
    "a bias": (content(bias=(1.0,)), content(bias=(2.0,)), Finding(Truth.OTHER_FUNCTION)),
    "zero of a bias": (content(bias=(0.0,)), content(bias=(-0.0,)), Finding(Truth.SAME_FUNCTION)),
    "metadata": (content(), content().saying(format="np"), Finding(Truth.OTHER_FILE)),
    "no tensor": (content(), content().without("after.scale"), Finding(Truth.OTHER_FILE)),
    "a claim": (
        content(),
        content().saying(**{RECIPE: content().metadata[RECIPE].replace('"x"', '"y"')}),
        Finding(Truth.OTHER_CLAIM),
    ),
    "a record": (
        content(),
        content().saying(**{RECIPE: content().metadata[RECIPE].replace("[0]", "[1]")}),
        Finding(Truth.OTHER_RECORD),
    ),
    "no record": (content(), content().silent(RECIPE), Finding(Truth.OTHER_RECORD)),
}  # fmt: skip


@pytest.mark.parametrize(("expected", "found", "truth"), FOUND.values(), ids=FOUND)
def test_the_oracle_sees_what_is_true(expected: Content, found: Content, truth: Finding) -> None:
    assert find(expected, BIASED, pack(found)) == truth


@pytest.mark.parametrize("cut", [1, 100, 10_000])
def test_the_oracle_sees_what_is_no_file(cut: int) -> None:
    assert find(content(), BIASED, pack(content())[:-cut]) == Finding(Truth.NO_FILE)


def test_the_same_mutants_come_out_every_time() -> None:
    subject = Subject(BIASED, original(BIASED), content())
    for mutant in mutants(BIASED):
        if KINDS[mutant.kind] not in GROUPS["the record of the swap"]:
            assert damaged(subject, mutant) == damaged(subject, mutant)
    assert list(mutants(BIASED)) == list(mutants(case(BIASED.number, SEED)))
    assert list(mutants(case(BIASED.number, SEED + 1))) != list(mutants(BIASED))


def test_controls_hold_the_same_in_other_bytes() -> None:
    subject = Subject(BIASED, original(BIASED), content())
    for kind in CONTROLS:
        file = kind.damage(subject, ())
        assert file != pack(subject.after)
        assert unpack(file) == subject.after


# A survivor is seen, whichever proof it survived.

MUTANT = Mutant(BIASED.number, "made up", ())
NO = Judged(
    BIASED, MUTANT, Finding(Truth.OTHER_FUNCTION, weights=True),
    bits=False, function=False, digests=False, reasons=1,
)  # fmt: skip
SURVIVORS = {
    "bits": replace(NO, bits=True),
    "bits without a reason": replace(NO, reasons=0),
    "function": replace(NO, function=True),
    "digests": replace(NO, digests=True),
    "refused for no reason": replace(NO, refused="CS082", bits=None),
    "a false alarm of the function": replace(NO, found=Finding(Truth.SAME_FUNCTION, weights=True)),
    "a false alarm of the bits": replace(NO, found=Finding(Truth.SAME)),
    "a broken file": replace(NO, found=Finding(Truth.NO_FILE)),
    "another file": replace(NO, found=Finding(Truth.OTHER_FILE), bits=True),
}


@pytest.mark.parametrize("one", SURVIVORS.values(), ids=SURVIVORS)
def test_a_survivor_is_seen(one: Judged) -> None:
    assert one.survived
    assert not NO.survived
    assert figures([one, NO])["**survivors**"] == 1


def test_a_broken_verifier_leaves_survivors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    always = Bits(equal=True, elements=1)
    # `convsurgeon.proof.compare` is the function of that name.
    module = sys.modules["convsurgeon.proof.compare"]
    monkeypatch.setattr(module, "compare_bits", lambda *_: always)
    found = list(judged(tmp_path, [0], SEED))
    assert sum(one.survived for one in found) > 50


def test_a_swap_that_is_wrong_is_no_subject(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swap = cs.swap

    def wrong(before: Path, after: Path, **choices: object) -> None:
        swap(before, after, **choices)  # type: ignore[arg-type]
        found = unpack(after.read_bytes())
        after.write_bytes(pack(found.without("after.scale")))

    monkeypatch.setattr(cs, "swap", wrong)
    with pytest.raises(ValueError, match="not swapped as it should"):
        prepare(tmp_path, BIASED)


# The benchmark.


def test_the_benchmark_says_how_many_of_how_many(tmp_path: Path) -> None:
    found = list(enough(tmp_path, 200, SEED))
    counted = figures(found)
    assert counted["mutants"] >= 200
    assert counted["mutants"] + counted["hit nothing"] == len(found)
    lines = report([*found, SURVIVORS["bits"]])
    assert lines[2].startswith(f"| all | {counted['mutants'] + 1:,} |")
    assert lines[-1].startswith("- survived: Mutant(case=")
    swaps = list(sound(tmp_path, range(3), SEED))
    assert alarms(swaps)[0].endswith(": 0 called different.")
    wrong = replace(swaps[0], called_different=("a true swap",))
    assert alarms([*swaps, wrong])[0].endswith(": 1 called different.")


def test_the_benchmark_writes_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- mutants -->\nan earlier run\n<!-- end -->\nafter\n")
    command = ["mutants.py", "--count", "1", "--swaps", "2", "--page", str(page)]
    monkeypatch.setattr("sys.argv", command)
    main()
    text = page.read_text()
    assert text.startswith("before\n<!-- mutants -->\n\nSeed 1")
    assert text.endswith("called different.\n\n<!-- end -->\nafter\n")
    assert "an earlier run" not in text
    assert "| a bit of an element |" in capsys.readouterr().out
