"""What has to hold after a fault, and after the run that follows it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.faults.points import Fault
from tests.faults.scenarios import TEMPORARY, Scenario, State, below
from tests.faults.zygote import HUNG, Ran

_CODE = re.compile(r"\[(CS\d{3})\]")
_DEFECT = "CS091"
_INTERRUPTED = "interrupted; nothing half-written remains"
# With what a temporary is removed: where one of these fails, it may be left to the next run.
_REMOVAL = frozenset({
    "close", "fcntl", "fstat", "getdents64", "lstat", "newfstatat", "openat", "rmdir", "stat",
    "unlink", "unlinkat",
})  # fmt: skip


@dataclass(frozen=True)
class Expected:
    """The two states that are allowed.

    Attributes:
        before: the folder as it was.
        after: the folder as an undisturbed run leaves it.
    """

    before: State
    after: State


def _is_temporary(name: str) -> bool:
    return name.partition("/")[0].endswith(TEMPORARY)


def complaints(
    scenario: Scenario, expected: Expected, found: State, ran: Ran, fault: Fault
) -> list[str]:
    """Return what is wrong after a fault."""
    said = _said(scenario, expected, found, ran, fault)
    return [*_places(scenario, expected, found, fault, ran), *said]


def _places(
    scenario: Scenario, expected: Expected, found: State, fault: Fault, ran: Ran
) -> list[str]:
    wrong = []
    if below(found, scenario.source) != below(expected.before, scenario.source):
        wrong.append("the source has changed")
    target = below(found, scenario.target)
    allowed = [below(rows, scenario.target) for rows in (expected.before, expected.after)]
    if target not in allowed:
        wrong.append("the output is neither old nor new")
    known = expected.before.keys() | expected.after.keys()
    foreign = [name for name in found if name not in known and not _is_temporary(name)]
    if foreign and target in allowed:
        wrong.append(f"something else appeared: {foreign}")
    left = [name for name in found if _is_temporary(name) and name not in expected.before]
    excused = fault.kills or ("error" in str(fault.injections) and fault.names & _REMOVAL)
    if left and not excused:
        wrong.append(f"a temporary is left: {left}")
    return wrong


def _said(
    scenario: Scenario, expected: Expected, found: State, ran: Ran, fault: Fault
) -> list[str]:
    if HUNG in ran.err:
        return ["the command did not end"]
    old = below(found, scenario.target) == below(expected.before, scenario.target)
    new = below(found, scenario.target) == below(expected.after, scenario.target)
    lines = ran.err.splitlines()
    codes = set(_CODE.findall(ran.err))
    wrong = [f"exit code {ran.code} is not one for this fault"] if not _fits(ran, fault) else []
    if ran.code == 0 and not new:
        wrong.append("exit code 0, and the output is not there")
    if ran.code in (1, 2, 3) and not old:
        wrong.append(f"exit code {ran.code}, and the output has changed")
    if ran.code == 4 and not new:
        wrong.append("exit code 4, and the output is not there")
    if ran.code in (1, 2, 3) and not fault.silences and (len(lines) != 1 or not codes):
        wrong.append("no line that says why")
    if (
        ran.code == 130 and not lines and not old and not fault.silences
    ):  # before the command began, there is no need
        wrong.append("no line that says why")
    if _DEFECT in codes or "Traceback" in ran.err or "\x1b" in ran.err:
        wrong.append("not an error but a defect")
    return wrong


def _fits(ran: Ran, fault: Fault) -> bool:
    if fault.kills and ran.code == -9:
        return True
    if fault.interrupts and ran.code in (130, -15, -2):
        return ran.code == 130 or not ran.err
    if ran.code == 2:  # the parser of the command line, which asks whether a file may be read
        return fault.call.name == "access"
    if ran.code == 1:
        return fault.kind == "lost write"
    return ran.code in (0, 3, 4)


def complaints_of_next(expected: Expected, found: State, ran: Ran) -> list[str]:
    """Return what is wrong after the run that follows a fault."""
    wrong = []
    if ran.code != 0:
        last = (ran.err.splitlines() or [""])[-1]
        wrong.append(f"the next run exits with {ran.code}: {last}")
    if found != expected.after:
        names = {
            n for n in found.keys() | expected.after.keys() if found.get(n) != expected.after.get(n)
        }
        wrong.append(f"after the next run these differ: {sorted(names)}")
    return wrong
