"""System calls of real commands fail, lie, or are their last: nothing is ever half done.

The faults are injected by strace; docs/faults.md says what is injected and what has to hold.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.harness import bench
from tests.faults.order import wrong_order
from tests.faults.points import Fault, chosen, kinds
from tests.faults.scenarios import SCENARIOS
from tests.faults.strace import why_not
from tests.faults.zygote import Zygote

pytestmark = pytest.mark.skipif(bool(why_not()), reason=f"no faults are injected: {why_not()}")

# How many of a scenario's faults are injected here; all of them are, in the long run.
FAULTS = {
    "file": 250,
    "file, permuted": 40,
    "file, --force": 350,
    "folder": 60,
    "folder, --force": 150,
    "restore": 60,
    "restore, --force": 60,
    "restore, folder": 60,
    "after a kill, file": 80,
    "after a kill, folder": 60,
}
KINDS = {"SIGKILL", "SIGTERM", "EIO", "ENOSPC", "EINTR", "lost write", "disk dies with EIO"}


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as process:
        yield process


def test_enough_faults() -> None:
    assert sum(FAULTS.values()) >= 1000
    assert FAULTS.keys() == SCENARIOS.keys()


@pytest.mark.parametrize("name", FAULTS)
def test_nothing_is_lost(zygote: Zygote, name: str) -> None:
    with bench(zygote, SCENARIOS[name]) as found:
        assert wrong_order(found.calls, str(found.point), found.scenario.target) == []
        faults = chosen(found.calls, FAULTS[name], seed=1)
        assert {fault.kind for fault in faults} >= KINDS
        findings = found.disturb(faults)
    assert findings.complaints == []
    assert findings.injected == FAULTS[name]  # as strace says, not as we asked


UNSAFE = {
    "writes under the final name": ("file", "neither old nor new"),
    "removes the old one first": ("file, --force", "neither old nor new"),
    "renames twice": ("folder, --force", "neither old nor new"),
    "forgets the mode": ("file, --force", "neither old nor new"),
    "ignores how much was written": ("file", "neither old nor new"),
    "swallows errors": ("file, --force", "exit code 0, and the output is not there"),
    "leaves temporaries": ("file", "a temporary is left"),
    "forgets the dead": ("after a kill, file", "after the next run these differ"),
}
OUT_OF_ORDER = {
    "never syncs": "is not synced before the output gets its name",
    "syncs too late": "is not synced before the output gets its name",
    "forgets the folder": "the folder is not synced right after",
    "writes under the final name": "nothing was renamed or linked",
}


@pytest.mark.parametrize("writer", UNSAFE)
def test_an_unsafe_writer_does_not_pass(zygote: Zygote, writer: str) -> None:
    name, complaint = UNSAFE[writer]
    with bench(zygote, SCENARIOS[name], writer) as found:
        findings = found.disturb(at_changes(kinds(found.calls), found.scenario.target))
    assert any(complaint in text for text in findings.complaints), findings
    assert findings.injected > 0


def at_changes(faults: dict[str, list[Fault]], target: str) -> list[Fault]:
    """One fault of a kind that shows it, at each call that changes files."""
    wanted = ("SIGKILL", "EIO", "lost write")
    return [fault for kind in wanted for fault in faults[kind] if fault.call.changes][:40]


@pytest.mark.parametrize("writer", OUT_OF_ORDER)
def test_an_unsafe_order_does_not_pass(zygote: Zygote, writer: str) -> None:
    with bench(zygote, SCENARIOS["file"], writer) as found:
        wrong = wrong_order(found.calls, str(found.point), found.scenario.target)
    assert any(OUT_OF_ORDER[writer] in text for text in wrong), wrong
