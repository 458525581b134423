"""What has to hold after a fault, and after the run that follows it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tests.faults.points import Fault
from tests.faults.scenarios import JOURNAL, TEMPORARY, Row, Scenario, State, below
from tests.faults.zygote import HUNG, Ran

_CODE = re.compile(r"\[(CS\d{3})\]")
_DEFECT = "CS091"
_INTERRUPTED = "convsurgeon: interrupted; nothing half-written remains"
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


def complaints(
    scenario: Scenario, expected: Expected, found: State, ran: Ran, fault: Fault
) -> list[str]:
    """Return what is wrong after a fault."""
    seen = _Seen(scenario, expected, found)
    return [*_places(seen, fault), *_said(seen, ran, fault)]


def _is_temporary(name: str) -> bool:
    return any(part.startswith(".") and part.endswith(TEMPORARY) for part in name.split("/"))


def _is_journal(name: str) -> bool:
    return name.endswith(JOURNAL)


class _Seen:
    """A folder after a fault, beside what is allowed."""

    def __init__(self, scenario: Scenario, expected: Expected, found: State) -> None:
        self.scenario, self.expected, self.found = scenario, expected, found
        passing = {n for n in found if _is_temporary(n) or _is_journal(n)}
        self.rest = {name: row for name, row in found.items() if name not in passing}
        target = below(self.rest, scenario.target)
        self.old = target == below(expected.before, scenario.target)
        self.new = target == below(expected.after, scenario.target)
        # In place, a journal says that the next command of any kind makes it old or new.
        self.pending = scenario.in_place and any(_is_journal(name) for name in found)

    def same_data(self) -> bool:
        """Whether everything behind the headers is as it was."""
        names = [name for name in self.expected.before if name.endswith(".safetensors")]
        return all(
            data_of(self.found.get(name)) == data_of(self.expected.before[name]) for name in names
        )


def data_of(row: Row | None) -> bytes | None:
    """Return the bytes of the tensors of a file."""
    if row is None:
        return None
    return row[2][8 + int.from_bytes(row[2][:8], "little") :]


def _places(seen: _Seen, fault: Fault) -> list[str]:
    scenario, expected, wrong = seen.scenario, seen.expected, []
    if scenario.in_place and not seen.same_data():
        wrong.append("the data of a tensor has changed")
    source = (below(rows, scenario.source) for rows in (seen.found, expected.before))
    if not scenario.in_place and next(source) != next(source):
        wrong.append("the source has changed")
    if not (seen.old or seen.new or seen.pending):
        wrong.append("the output is neither old nor new")
    known = expected.before.keys() | expected.after.keys()
    foreign = [name for name in seen.rest if name not in known]
    if foreign and (seen.old or seen.new):
        wrong.append(f"something else appeared: {foreign}")
    left = [n for n in seen.found if _is_temporary(n) and n not in expected.before]
    excused = fault.kills or ("error" in str(fault.injections) and fault.names & _REMOVAL)
    if left and not excused:
        wrong.append(f"a temporary is left: {left}")
    return wrong


def _said(seen: _Seen, ran: Ran, fault: Fault) -> list[str]:
    if HUNG in ran.err:
        return ["the command did not end"]
    lines = ran.err.splitlines()
    codes = set(_CODE.findall(ran.err))
    old = seen.old or seen.pending
    wrong = [f"exit code {ran.code} is not one for this fault"] if not _fits(ran, fault) else []
    if ran.code in (0, 4) and not seen.new:
        wrong.append(f"exit code {ran.code}, and the output is not there")
    if ran.code in (1, 2, 3) and not old:
        wrong.append(f"exit code {ran.code}, and the output has changed")
    if ran.code in (1, 2, 3) and not fault.silences and (len(lines) != 1 or not codes):
        wrong.append("no line that says why")
    # At a random moment it may hit the process before the command is there.
    chosen = bool(fault.names) and not fault.silences
    if ran.code == 130 and chosen and lines[-1:] != [_INTERRUPTED]:
        wrong.append("no line that says that it was interrupted")
    if _DEFECT in codes or "Traceback" in ran.err or "\x1b" in ran.err:
        wrong.append("not an error but a defect")
    return wrong


def _fits(ran: Ran, fault: Fault) -> bool:
    if fault.kills and ran.code == -9:
        return True
    if fault.interrupts and ran.code in (130, -15):
        return ran.code == 130 or not ran.err
    if ran.code == 2:  # the parser of the command line, which asks whether a file may be read
        return fault.call.name == "access"
    if ran.code == 1:
        return fault.kind == "lost write"
    return ran.code in (0, 3, 4)


def complaints_when_mended(
    scenario: Scenario, expected: Expected, found: State, ran: Ran
) -> list[str]:
    """Return what is wrong after a command that only reads has followed a fault in place."""
    seen = _Seen(scenario, expected, found)
    wrong = [f"it cannot be mended: {ran.err}"] if ran.code not in (0, 3) else []
    if not (seen.old or seen.new):
        wrong.append("what was interrupted is neither undone nor done")
    if any(name == f"{scenario.target}{JOURNAL}" for name in found):
        wrong.append("a journal outlives the command that follows")
    return wrong


def complaints_of_next(scenario: Scenario, expected: Expected, found: State, ran: Ran) -> list[str]:
    """Return what is wrong after the run that follows a fault."""
    wrong = []
    if ran.code != 0 and not (scenario.again and f"[{scenario.again}]" in ran.err):
        last = (ran.err.splitlines() or [""])[-1]
        wrong.append(f"the next run exits with {ran.code}: {last}")
    names = found.keys() | expected.after.keys()
    differing = sorted(n for n in names if found.get(n) != expected.after.get(n))
    if differing:
        wrong.append(f"after the next run these differ: {differing}")
    return wrong
