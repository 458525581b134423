"""Right on public architectures: a sample of the census each time, all of it in the long tier."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from accuracy import CHANGED, Judged, judge, report
from unseen import unseen
from zoo_files import rows

from convsurgeon.sources.catalogue.table import entry
from tests import census_rows
from tests.census_rows import CENSUS

LIBRARIES = {"diffusers", "open_clip", "timm", "torchvision", "transformers"}
SHARES = {"with config": (0.995, 0.98), "bare": (0.97, 0.90)}
"""Of the eligible layers with a kernel above 1, and of all of them, how many are to be found."""


def wrong(judged: Iterable[Judged]) -> list[str]:
    """Layers that are called eligible and are not, and files that could not be read."""
    return [
        f"{j.called}: {j.source} {j.architecture} {j.key}, by {j.level}"
        for j in judged
        if j.called == "error" or (j.called == "eligible" and not j.eligible)
    ]


def shares(judged: Iterable[Judged]) -> tuple[float, float]:
    """The found share of the eligible layers with a kernel above 1, and of all of them."""
    true = [j for j in judged if j.eligible]
    found = [j.called == "eligible" for j in true]
    patches = [j.called == "eligible" for j in true if j.patchify]
    return sum(patches) / len(patches), sum(found) / len(found)


@pytest.mark.parametrize("mode", SHARES)
def test_a_sample_of_every_library(mode: str) -> None:
    sample = census_rows.sample()
    assert len(sample) > 55
    assert {row["source"] for row in sample} == LIBRARIES
    judged = list(judge(sample, bare=mode == "bare"))
    assert len({j.architecture for j in judged if j.eligible}) > 20
    assert wrong(judged) == []
    # A sample is small: one layer is more than a share of all.
    assert [
        found >= wanted - 0.03 for found, wanted in zip(shares(judged), SHARES[mode], strict=True)
    ] == [True, True]


def test_a_wrong_layer_is_seen() -> None:
    """The same sample with a truth that is turned round: what was right is wrong."""
    (row,) = [r for r in census_rows.sample() if any(c["eligible"] for c in r["convs"])][:1]
    turned = {**row, "convs": [{**c, "eligible": not c["eligible"]} for c in row["convs"]]}
    assert wrong(judge([row], bare=False)) == []
    assert len(wrong(judge([turned], bare=False))) == sum(c["eligible"] for c in row["convs"])


def test_what_is_not_found_is_seen() -> None:
    told = Judged("timm", "a", "k", "none", "undecided", eligible=True, patchify=True)
    yes = told._replace(called="eligible")
    assert shares([told, yes, yes._replace(patchify=False)]) == (1 / 2, 2 / 3)
    assert wrong([told, yes]) == []
    assert len(wrong([yes._replace(eligible=False), yes._replace(called="error")])) == 2


def test_the_table_says_which_libraries_it_was_read_from() -> None:
    """Its facts were read off these versions' code, not off the census."""
    versions = entry("versions")
    assert set(versions) == LIBRARIES
    assert all(version[0].isdigit() for version in versions.values())


def test_the_table_counts_those_found() -> None:
    right = Judged("timm", "a", "k", "config", "eligible", eligible=True, patchify=True)
    judged = [
        right,
        right._replace(called="undecided", level="none"),
        right._replace(eligible=False),
    ]
    figures, lines = report(judged)
    assert figures["all"] == figures["timm"]
    assert figures["all"] == {
        "called": 2, "wrong": 1, "patchify": 2, "patchify_found": 1, "eligible": 2, "found": 1,
        "missed_refused": 0, "missed_undecided": 1, "right_refused": 0, "right_undecided": 0,
    }  # fmt: skip
    assert "| all | 1 | 0 | 1 | 1 | 0 | 0 | 1 of 2 (50.00 %) | 1 of 2 (50.00 %) |" in lines
    assert "- wrong: timm `a`, `k` (config)" in lines


# --- everything


@pytest.mark.long
@pytest.mark.parametrize("mode", SHARES)
def test_the_whole_census(mode: str) -> None:
    judged = list(judge(rows(CENSUS), bare=mode == "bare"))
    assert len({(j.source, j.architecture) for j in judged}) > 2500
    assert wrong(judged) == []
    for found, wanted in zip(shares(judged), SHARES[mode], strict=True):
        assert found >= wanted


def changed(*, states_stride: bool | None = None) -> list[census_rows.Row]:
    """Configurations that nobody published."""
    found = list(rows(CHANGED))
    return [r for r in found if states_stride is None or r["states_stride"] is states_stride]


@pytest.mark.long
def test_changed_configurations_that_state_the_stride() -> None:
    assert len(changed()) >= 300
    judged = list(judge(changed(states_stride=True), bare=False))
    assert wrong(judged) == []
    assert shares(judged)[0] >= 0.9


@pytest.mark.long
@pytest.mark.parametrize("bare", [False, True])
def test_changed_configurations_are_found(bare: bool) -> None:
    assert shares(judge(changed(), bare=bare))[0] >= 0.9


@pytest.mark.long
def test_a_family_that_the_catalogue_never_saw() -> None:
    judged = [Judged(*one) for one in unseen(list(rows(CENSUS)))]
    called = [j for j in judged if j.called == "eligible"]
    assert len(called) > 1000
    assert len(wrong(judged)) <= 0.002 * len(called)
