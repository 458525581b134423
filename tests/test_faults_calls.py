"""System calls of real commands fail, lie, or are their last: nothing is ever half done.

The faults are injected by strace; docs/faults.md says what is injected and what has to hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from signal import Signals

import pytest

from tests.faults.harness import Bench, bench
from tests.faults.order import Event, events, wrong_order, wrong_order_in_place
from tests.faults.points import Fault, chosen, kinds
from tests.faults.scenarios import SCENARIOS
from tests.faults.strace import why_not
from tests.faults.zygote import Zygote

pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"no faults are injected: {why_not()}")

# How many of a scenario's faults are injected here; all of them are, in the long run.
FAULTS = {
    "file": 150,
    "file, permuted": 40,
    "file, --force": 250,
    "folder": 50,
    "folder, --force": 120,
    "restore": 40,
    "restore, --force": 40,
    "restore, folder": 40,
    "after a kill, file": 60,
    "after a kill, folder": 40,
    "in place": 80,
    "in place, recipe beside": 80,
    "in place, shards": 60,
    "in place, restore": 50,
    "in place, after a kill": 60,
    "file, two threads": 150,
    "file, permuted, two threads": 40,
    "folder, --force, two threads": 80,
    "restore, two threads": 40,
}
KINDS = {"SIGKILL", "SIGTERM", "EIO", "ENOSPC", "EINTR", "lost write", "disk dies with EIO"}


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as process:
        yield process


def test_enough_faults() -> None:
    assert sum(n for name, n in FAULTS.items() if not SCENARIOS[name].two_threads) >= 1000
    assert FAULTS.keys() == SCENARIOS.keys()


@pytest.mark.parametrize("name", FAULTS)
def test_nothing_is_lost(zygote: Zygote, name: str) -> None:
    with bench(zygote, SCENARIOS[name]) as found:
        assert order(found) == []
        faults = chosen(found.calls, FAULTS[name], seed=1)
        assert {fault.kind for fault in faults} >= KINDS
        findings = found.disturb(faults)
    assert findings.complaints == []
    # As strace says, not as we asked. Of two threads, one waits more often in one run than in
    # another, and a signal at a call of the writer stays unheard: it waits for the main thread.
    wanted = 0.8 if SCENARIOS[name].two_threads else 1
    assert findings.injected >= wanted * FAULTS[name]


def order(found: Bench) -> list[str]:
    """What is wrong with the order of the calls of an undisturbed run."""
    if found.scenario.in_place:
        return wrong_order_in_place(found.calls, str(found.point))
    return wrong_order(found.calls, str(found.point), found.scenario.target)


def test_folders_that_are_made_for_an_output_survive_with_it(zygote: Zygote) -> None:
    made = replace(
        SCENARIOS["file"], arguments=(*SCENARIOS["file"].arguments, "-o", "a/b/x.safetensors")
    )
    with bench(zygote, replace(made, target="a/b/x.safetensors")) as found:
        seen = [event for event in events(found.calls, str(found.point)) if event.kind != "write"]
    for folder in (found.point, found.point / "a"):
        entry = seen.index(Event("entry", str(folder)))
        assert seen[entry + 1] == Event("sync", str(folder))


@pytest.mark.parametrize("name", ["file, --force", "folder", "in place"])
def test_signals_at_moments_that_nobody_chose(zygote: Zygote, name: str) -> None:
    with bench(zygote, SCENARIOS[name]) as found:
        for signal in (Signals.SIGTERM, Signals.SIGINT, Signals.SIGKILL):
            findings = found.at_random(signal, 12, seed=2)
            assert findings.complaints == []
            assert findings.interrupted > 0


UNSAFE = {
    "writes under the final name": ("file", "neither old nor new"),
    "removes the old one first": ("file, --force", "neither old nor new"),
    "renames twice": ("folder, --force", "neither old nor new"),
    "forgets the mode": ("file, --force", "neither old nor new"),
    "ignores how much was written": ("file", "neither old nor new"),
    "swallows errors": ("file, --force", "exit code 0, and the output is not there"),
    "leaves temporaries": ("file", "a temporary is left"),
    "forgets the dead": ("after a kill, file", "after the next run these differ"),
    "keeps no journal": ("in place", "neither old nor new"),
}
OUT_OF_ORDER = {
    ("never syncs", "file"): "is not synced before the output gets its name",
    ("syncs too late", "file"): "is not synced before the output gets its name",
    ("forgets the folder", "file"): "the folder is not synced right after",
    ("writes under the final name", "file"): "nothing was renamed or linked",
    ("never syncs", "in place"): "is removed before the file is synced",
    ("keeps no journal", "in place"): "has no journal",
    ("removes the journal first", "in place"): "when its journal is gone",
}


@pytest.mark.parametrize("writer", UNSAFE)
def test_an_unsafe_writer_does_not_pass(zygote: Zygote, writer: str) -> None:
    name, complaint = UNSAFE[writer]
    with bench(zygote, SCENARIOS[name], writer) as found:
        findings = found.disturb(at_changes(kinds(found.calls)))
    assert any(complaint in text for text in findings.complaints), findings
    assert findings.injected > 0


def at_changes(faults: dict[str, list[Fault]]) -> list[Fault]:
    """One fault of a kind that shows it, at each call that changes files."""
    wanted = ("SIGKILL", "EIO", "lost write")
    return [fault for kind in wanted for fault in faults[kind] if fault.call.changes][:40]


@pytest.mark.parametrize(("writer", "name"), OUT_OF_ORDER, ids=str)
def test_an_unsafe_order_does_not_pass(zygote: Zygote, writer: str, name: str) -> None:
    with bench(zygote, SCENARIOS[name], writer) as found:
        wrong = order(found)
    assert any(OUT_OF_ORDER[writer, name] in text for text in wrong), wrong
