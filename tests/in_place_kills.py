"""A run in place is killed at every call that changes a disk, and so is every recovery from that.

    python -m tests.in_place_kills CASE run|recovery|unsafe FOLDER

works in an empty folder and prints what became of the files as JSON. It forks once for each kill,
which a process with threads must not do; hence a process of its own.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from convsurgeon.errors import ConvsurgeonError
from convsurgeon.store import recovery
from tests.in_place_cases import (
    CASES,
    CHANGES,
    Case,
    Content,
    Faults,
    content,
    killed,
    name_of,
    put_back,
)


@dataclass
class Tally:
    """What became of the files.

    Attributes:
        old: how often they were as before, after the next command.
        new: how often they were as they should become.
        journals: how often a journal was there in between.
        torn: how often a file was neither before the next command.
        lost: what was killed, where the files were neither old nor new afterwards.
    """

    old: int = 0
    new: int = 0
    journals: int = 0
    torn: int = 0
    lost: list[str] = field(default_factory=list)


def in_a_child(work: Callable[[], object], faults: Faults, *, cut: bool = False) -> bool:
    """Do something in a process that is killed; return whether it was.

    Args:
        work: what is done.
        faults: where it is killed.
        cut: whether every write of a header takes a part of its bytes, so that a kill at the
            next one leaves it torn.
    """
    pid = os.fork()
    if not pid:
        with suppress(BaseException):
            if cut:
                _cut()
            with faults.installed(), suppress(ConvsurgeonError):
                work()
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def _cut() -> None:
    pwrite = os.pwrite

    def part(fd: int, data: Any, at: int) -> int:
        whole = name_of(fd).endswith("-tmp")
        return pwrite(fd, bytes(data if whole else data[: len(data) // 4 + 1]), at)

    os.pwrite = part


def visible(folder: Path) -> Content:
    """Every file but stale temporaries."""
    return {name: data for name, data in content(folder).items() if not name.endswith("-tmp")}


def runs(case: Case, folder: Path) -> Tally:
    """Kill the run at every call, then use the files."""
    tally, both = Tally(), case.both(folder)
    for cut in (False, True):
        number = 0
        while in_a_child(lambda: case.act(folder), Faults(killed, number, calls=CHANGES), cut=cut):
            _settle(case, folder, both, tally, f"call {number}, cut {cut}")
            put_back(folder, both[0])
            number += 1
        put_back(folder, both[0])
    return tally


def recoveries(case: Case, folder: Path) -> Tally:
    """Kill the run at every call, and the recovery from each at every call, then use the files."""
    tally, both = Tally(), case.both(folder)
    number = 0
    seen: list[Content] = []
    while in_a_child(lambda: case.act(folder), Faults(killed, number, calls=CHANGES), cut=True):
        number += 1
        left = visible(folder)
        if left not in seen and any(name.endswith("-journal") for name in left):
            seen.append(left)
            _recover_from(case, folder, both, tally)
        put_back(folder, both[0])
    return tally


def _recover_from(case: Case, folder: Path, both: tuple[Content, Content], tally: Tally) -> None:
    left, number = content(folder), 0
    for cut in (False, True):
        number = 0
        while in_a_child(
            lambda: case.settle(folder), Faults(killed, number, calls=CHANGES), cut=cut
        ):
            _settle(case, folder, both, tally, f"recovery, call {number}, cut {cut}")
            put_back(folder, left)
            number += 1


def _settle(
    case: Case, folder: Path, both: tuple[Content, Content], tally: Tally, what: str
) -> None:
    found = visible(folder)
    tally.journals += any(name.endswith("-journal") for name in found)
    headers = ({name: state.get(name) for name in found} for state in both)
    weights = [{n: d for n, d in state.items() if n.endswith(".safetensors")} for state in headers]
    mine = {n: d for n, d in found.items() if n.endswith(".safetensors")}
    tally.torn += mine not in weights
    try:
        case.settle(folder)
    except ConvsurgeonError as error:
        tally.lost.append(f"{what}: {error}")
        return
    after = visible(folder)
    tally.old += after == both[0]
    tally.new += after == both[1]
    if after not in both:
        tally.lost.append(what)


def unsafe(case: Case, folder: Path) -> Tally:
    """The same with a recovery that puts nothing back: it has to be seen losing files."""

    def nothing(*_: Any) -> None: ...

    setattr(recovery, "put", nothing)  # noqa: B010
    return runs(case, folder)


if __name__ == "__main__":
    name, how, place = sys.argv[1:]
    way = {"run": runs, "recovery": recoveries, "unsafe": unsafe}[how]
    sys.stdout.write(json.dumps(asdict(way(CASES[name], Path(place)))))
