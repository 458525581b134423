"""Receipts against the same verification done again: what is noticed, and as what."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import convsurgeon as cs
from convsurgeon.api import proving, receipts
from convsurgeon.api.proving import VerifyChoices
from convsurgeon.proof import Drift, receipt
from convsurgeon.proof.receipt import KINDS, Kind, compare_documents
from tests.proof_pairs import build, change
from tests.receipt_documents import (
    CASE,
    MODEL,
    Document,
    Leaf,
    as_json,
    at,
    drop,
    full,
    leaves,
    other,
    put,
)

DIGEST = ("files", 0, "digests", 0, "sha256")
SIDECAR = ("files", 0, "digests", 1, "sidecar")
RATIO = ("files", 0, "layers", 0, "floats", "ratio")
RMS = ("files", 0, "layers", 0, "floats", "after", "rms")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(tmp_path_factory.mktemp("receipts"), CASE)


@pytest.fixture(scope="module")
def document(pair: tuple[Path, Path]) -> Document:
    return full(*pair)


def of_kind(document: Document, *kinds: Kind) -> list[Leaf]:
    found = [leaf for leaf in leaves(document) if leaf.kind in kinds]
    assert len(found) >= 5
    return found


# --- Every field has a row, and every row a field


def test_every_field_of_real_documents_has_a_row(pair: tuple[Path, Path], tmp_path: Path) -> None:
    original, swapped = pair
    wrong = change(swapped, lambda weight: weight[::-1])
    verdicts = [
        cs.verify(original, swapped),
        cs.verify(original, swapped, function=False, keep=True),
        cs.verify(swapped, keep=True),
        cs.verify(original, wrong, keep=True),
        replace(cs.verify(original, swapped), models=(MODEL, replace(MODEL, outputs=()))),
    ]
    assert [verdict.equivalent for verdict in verdicts] == [True, True, True, False, False]
    for verdict in verdicts:
        found = as_json(verdict)
        assert list(leaves(found))
        assert compare_documents(found, found)[1:] == ((), ())


def test_every_row_has_a_field(document: Document) -> None:
    assert {leaf.name for leaf in leaves(document)} | receipt._INNER == KINDS.keys()


def test_a_field_without_a_row_is_seen(document: Document) -> None:
    strange = put(document, ("files", 0, "layers", 0, "bits", "fresh"), 1)
    with pytest.raises(KeyError, match="fresh"):
        list(leaves(strange))
    _, differences, _ = compare_documents(strange, document)
    place = "files[0].layers[0].bits.fresh"
    assert differences == (f"{place}: the receipt has a field that this version does not know",)
    _, differences, _ = compare_documents(document, strange)
    assert differences == (f"{place}: nothing in the receipt, 1 now",)


def test_every_choice_is_recorded_and_taken_up_again(document: Document) -> None:
    recorded = {*proving._OWN, *proving._EVIDENCE, *proving._READING} - {"keep"}
    assert set(document["asked"]) == recorded | {"original", "swapped", "function"}
    assert set(receipts._FORMS) == recorded
    # Of all choices, these alone are neither about evidence nor about proofs.
    of_swap = {"to", "exclude", "only", "layout", "child_keys", "recursive", "untie"}
    of_swap |= {"example_input", "fully_convolutional", "pool"}
    of_a_call = {"keep", "settings", "max_header_bytes"}
    keywords = set(VerifyChoices.__annotations__) | {*cs.api.choices.Choices.__annotations__}
    assert keywords - recorded == of_swap | of_a_call


# --- Each field, changed


def unnoticed(
    document: Document, found: list[Leaf], edit: Callable[[Any], Any], *, as_remark: bool
) -> list[str]:
    """Places whose edit gives anything but one line about them, on the side that is asked for."""
    wrong = []
    for leaf in found:
        edited = put(document, leaf.steps, edit(at(document, leaf.steps)))
        _, differences, remarks = compare_documents(edited, document)
        lines, others = (remarks, differences) if as_remark else (differences, remarks)
        if others or sum(line.startswith(f"{leaf.place}: ") for line in lines) != 1:
            wrong.append(leaf.place)
    return wrong


def facts_are_noticed(document: Document) -> bool:
    found = of_kind(document, Kind.FACT)
    assert len(found) > 60
    return unnoticed(document, found, other, as_remark=False) == []


def measures_are_remarks(document: Document) -> bool:
    return unnoticed(document, of_kind(document, Kind.MEASURE), other, as_remark=True) == []


def test_every_changed_fact_is_a_difference(document: Document) -> None:
    assert facts_are_noticed(document)


def test_every_changed_measure_is_a_remark(document: Document) -> None:
    assert measures_are_remarks(document)


def test_every_changed_circumstance_is_a_remark(document: Document) -> None:
    found = of_kind(document, Kind.CIRCUMSTANCE)
    assert unnoticed(document, found, other, as_remark=True) == []


def test_every_fact_that_is_null_is_a_difference(document: Document) -> None:
    found = of_kind(document, Kind.FACT)
    assert unnoticed(document, found, lambda _: None, as_remark=False) == []
    for steps in (("files", 0, "layers", 0, "function"), ("files", 0, "digests"), ("environment",)):
        _, differences, _ = compare_documents(put(document, steps, None), document)
        assert len(differences) == 1


@pytest.mark.parametrize("value", [{}, True, "text", ["text"], 10**400], ids=type)
def test_every_value_of_another_type_is_a_difference(document: Document, value: Any) -> None:
    found = of_kind(document, Kind.FACT, Kind.MEASURE, Kind.CIRCUMSTANCE)
    numbers = {int, float}
    edited = [
        leaf
        for leaf in found
        if type(at(document, leaf.steps)) is not type(value)
        and not {type(at(document, leaf.steps)), type(value)} <= numbers
    ]
    assert len(edited) > 60
    assert unnoticed(document, edited, lambda _: value, as_remark=False) == []


def test_facts_are_not_equal_because_python_says_so(document: Document) -> None:
    """To Python, `True == 1 == 1.0` and `[1] == [1.0]`."""

    def twin(value: Any) -> Any:
        if isinstance(value, list):
            return [float(one) for one in value]
        return int(value) if isinstance(value, bool) else float(value)

    found = [
        leaf
        for leaf in of_kind(document, Kind.FACT)
        if isinstance(at(document, leaf.steps), int)
        or leaf.name.endswith(("weight_shape", "[].shape", "kernel"))
    ]
    assert len(found) > 30
    for leaf in found:
        assert twin(at(document, leaf.steps)) == at(document, leaf.steps)
    assert unnoticed(document, found, twin, as_remark=False) == []


def test_every_field_that_is_missing_is_a_difference(document: Document) -> None:
    found = [
        x for x in leaves(document) if x.kind is not Kind.APART and isinstance(x.steps[-1], str)
    ]
    for leaf in found:
        less = drop(document, leaf.steps)
        for old, new in ((less, document), (document, less)):
            _, differences, _ = compare_documents(old, new)
            assert [line.startswith(f"{leaf.place}: ") for line in differences] == [True]


@pytest.mark.parametrize("steps", [("files",), ("models",), ("files", 0, "layers")], ids=str)
def test_another_number_of_entries_is_a_difference(document: Document, steps: Any) -> None:
    none: list[Any] = []
    for entries in (none, at(document, steps) * 2):
        _, differences, _ = compare_documents(put(document, steps, entries), document)
        assert len(differences) == 1
        assert differences[0].endswith(", a list of 1 now")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=6,
)


@given(st.data())
def test_whatever_stands_in_a_receipt(document: Document, data: st.DataObject) -> None:
    leaf = data.draw(st.sampled_from([x for x in leaves(document) if x.kind is not Kind.APART]))
    depth = data.draw(st.integers(1, len(leaf.steps)))
    steps, value = leaf.steps[:depth], data.draw(JSON)
    same = repr(value) == repr(at(document, steps))  # unlike ==, it tells 1 from True
    _, differences, remarks = compare_documents(put(document, steps, value), document)
    assert bool(differences or remarks) is not same
    assert all("\n" not in line and len(line) < 500 for line in (*differences, *remarks))


def test_a_receipt_from_before_sidecars_were_digested(document: Document) -> None:
    """It says nothing about one; a receipt that says there is none, or another, does."""
    place = "files[0].digests[1].sidecar"
    before, none = drop(document, SIDECAR), put(document, SIDECAR, None)
    agreed, differences, remarks = compare_documents(before, document)
    assert (differences, remarks) == ((), (f"{place}: nothing in the receipt, an object now",))
    assert agreed == len(of_kind(document, Kind.FACT)) - 2
    assert compare_documents(before, none) == (agreed, (), ())
    assert compare_documents(none, none) == (agreed + 1, (), ())
    for old, new in ((none, document), (document, none), (document, before), (none, before)):
        _, differences, remarks = compare_documents(old, new)
        assert ([line.startswith(f"{place}: ") for line in differences], remarks) == ([True], ())


# --- Remarks


def test_figures_that_are_the_same_are_no_remark(document: Document) -> None:
    agreed, differences, remarks = compare_documents(deepcopy(document), document)
    assert (differences, remarks) == ((), ())
    assert agreed == len(of_kind(document, Kind.FACT))


def test_a_remark_says_whether_the_circumstances_explain_it(document: Document) -> None:
    edited = put(document, RATIO, 1.5)
    now = at(document, RATIO)
    line = f"files[0].layers[0].floats.ratio: 1.5 in the receipt, {now} now"
    alike = "figures differ although versions, system and threads are the same"
    assert compare_documents(edited, document)[2] == (alike, line)
    elsewhere = put(edited, ("environment", "torch"), "9.9")
    remarks = compare_documents(elsewhere, document)[2]
    assert remarks[0] == line
    assert remarks[1].startswith('environment.torch: "9.9" in the receipt, "')
    assert len(remarks) == 2
    # A version that is another one explains nothing by itself.
    assert len(compare_documents(put(document, ("environment", "torch"), "9.9"), document)[2]) == 1


def test_a_figure_that_is_not_finite_now_is_a_remark(document: Document) -> None:
    for old, new in ((None, 1.0), (1.0, None), (2, 1.0)):
        pair = put(document, RMS, old), put(document, RMS, new)
        _, differences, remarks = compare_documents(*pair)
        assert (len(differences), len(remarks)) == (0, 2)


def test_kernels_that_a_machine_has_not_are_a_remark(document: Document) -> None:
    floats = RATIO[:-1]
    for pair in ((put(document, floats, None), document), (document, put(document, floats, None))):
        _, differences, remarks = compare_documents(*pair)
        assert (differences, len(remarks)) == ((), 2)
        assert "an object" in remarks[1]


def test_a_field_is_remarked_on_once_where_it_is_furthest_off(document: Document) -> None:
    drifts = [Drift(f"layer {n}", (2,), 1.0, 1.0, 1.0) for n in range(20)]
    moved = [replace(one, difference=2.0 if n == 7 else 1.1) for n, one in enumerate(drifts)]
    sides = []
    for one in (drifts, moved):
        layers = [drift.to_json() | {"shape": [2], "ratio": 1.0} for drift in one]
        sides.append(put(document, ("models", 0, "layers"), layers))
    remarks = compare_documents(*sides)[2]
    line = "models[0].layers[7].difference: 1.0 in the receipt, 2.0 now; and 19 more"
    assert remarks[1:] == (line,)


def test_no_more_differences_are_listed_than_somebody_reads(document: Document) -> None:
    many = deepcopy(document) | {f"field {n}": n for n in range(2000)}
    _, differences, _ = compare_documents(many, document)
    assert (len(differences), differences[-1]) == (51, "and 1950 more")


# --- Tests of the tests


SABOTAGE: dict[str, tuple[str, Any, Callable[[Document], bool]]] = {
    "all fields are measures": ("KINDS", dict.fromkeys(KINDS, Kind.MEASURE), facts_are_noticed),
    "all fields are apart": ("KINDS", dict.fromkeys(KINDS, Kind.APART), facts_are_noticed),
    "all fields are facts": ("KINDS", dict.fromkeys(KINDS, Kind.FACT), measures_are_remarks),
    "nothing is compared": ("_pairs", lambda _: iter(()), facts_are_noticed),
    "everything is the same": ("_same", lambda *_: True, facts_are_noticed),
    "receipts may lack every field": ("_LATER", frozenset(KINDS), lambda d: compare_documents(drop(d, ("equivalent",)), d)[1] != ()),
    "Python's equality": ("_same", lambda a, b: a == b, lambda d: compare_documents(put(d, ("equivalent",), 0), d)[1] != ()),
}  # fmt: skip


@pytest.mark.parametrize("case", SABOTAGE)
def test_a_broken_comparison_is_seen(
    document: Document, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, broken, check = SABOTAGE[case]
    assert document["equivalent"] is False
    assert check(document)
    monkeypatch.setattr(receipt, name, broken)
    assert not check(document)
