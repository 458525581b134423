"""The order of system calls that survives a power cut, read off a trace with paths."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.faults.scenarios import JOURNAL
from tests.faults.strace import Call

_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_DESCRIPTOR = re.compile(r"(?:\d+|AT_FDCWD)<([^>]*)>")
_WRITE = {"write", "pwrite64", "writev", "pwritev", "pwritev2", "ftruncate", "fallocate"}
_COPY = {"copy_file_range", "sendfile"}
_OWN = {"fchmod", "fchown", "fsetxattr"}
_NAME = {"link", "linkat", "rename", "renameat", "renameat2"}


@dataclass(frozen=True)
class Event:
    """A call that matters to what is on the disk.

    Attributes:
        kind: `write` (content or attributes), `entry` (a name in a folder), `sync`, `name`, `remove`.
        path: the file, or the folder; of a rename or link, the old name.
        goal: of a rename or link, the new name.
    """

    kind: str
    path: str
    goal: str = ""


def events(calls: Sequence[Call], folder: str) -> Iterator[Event]:
    """Yield what a trace did to files.

    Args:
        calls: of a run that was traced with paths (`-y`).
        folder: where the command ran.
    """
    for call in calls:
        if call.result < 0 and "= ?" not in call.text:
            continue
        descriptors = _DESCRIPTOR.findall(call.text)
        names = [os.path.join(folder, name) for name in _QUOTED.findall(call.text)]  # noqa: PTH118
        if call.name in _WRITE | _OWN and not call.reports:
            yield Event("write", descriptors[0])
        elif call.name in _COPY or "FICLONE" in call.text:
            # copy_file_range names its source first, sendfile and ioctl their target.
            yield Event("write", descriptors[1 if call.name == "copy_file_range" else 0])
        elif call.name in {"fsync", "fdatasync"}:
            yield Event("sync", descriptors[0])
        elif call.name in _NAME:
            yield Event("name", names[0], names[1])
        elif call.name == "unlink":
            yield Event("remove", names[0])
        elif "O_CREAT" in call.text:
            yield Event("entry", os.path.dirname(descriptors[-1]))  # noqa: PTH120
        elif call.name in {"mkdir", "mkdirat"}:
            yield Event("entry", os.path.dirname(names[0]))  # noqa: PTH120


def wrong_order(calls: Sequence[Call], folder: str, target: str) -> list[str]:
    """Return what a power cut could make of the calls; nothing where the order is right.

    Args:
        calls: of a run that was traced with paths (`-y`).
        folder: where the command ran.
        target: the output's name in it.
    """
    found = list(events(calls, folder))
    final = os.path.join(folder, target)  # noqa: PTH118
    wrong = []
    places = [i for i, e in enumerate(found) if e.kind == "name" and e.goal == final]
    if not places:
        return ["nothing was renamed or linked to the output's name"]
    named = places[-1]
    draft = found[named].path
    for place, event in enumerate(found):
        if event.kind in {"write", "entry"}:
            wrong += _of_change(found, place, named, (draft, final, folder))
    after = [event for event in found[named + 1 :] if event.kind != "remove"]
    if not after or after[0] != Event("sync", folder):
        wrong.append("the folder is not synced right after the output got its name")
    wrong += [f"{e.kind} {e.path} after the last sync" for e in after[1:]]
    return wrong


def _of_change(
    found: list[Event], place: int, named: int, where: tuple[str, str, str]
) -> list[str]:
    event = found[place]
    draft, final, folder = where
    if event.path == final or event.path.startswith(f"{final}/"):
        return [f"{event.kind} under the final name"]
    if event.path == folder:
        return []  # the name of the temporary need not survive
    if event.path != draft and not event.path.startswith(f"{draft}/"):
        return [f"{event.kind} {event.path}: it belongs to nothing that is published"]
    if place > named:
        return []  # reported as what comes after the last sync
    if Event("sync", event.path) not in found[place:named]:
        return [f"{event.kind} {event.path} is not synced before the output gets its name"]
    return []


def wrong_order_in_place(calls: Sequence[Call], folder: str) -> list[str]:
    """Return what a power cut could make of a rewrite in place; nothing where the order is right.

    Args:
        calls: of a run that was traced with paths (`-y`).
        folder: where the command ran.
    """
    whole = list(events(calls, folder))
    files = {e.path for e in whole if e.kind == "write" and e.path.endswith(".safetensors")}
    wrong = [] if files else ["nothing was rewritten"]
    for file in sorted(files):
        found = _after_recovery(whole, f"{file}{JOURNAL}")
        first = found.index(Event("write", file))
        last = len(found) - 1 - found[::-1].index(Event("write", file))
        journal = next(
            (e for e in found if e.kind == "name" and e.goal == f"{file}{JOURNAL}"), None
        )
        if journal is None:
            wrong.append(f"{file} has no journal")
            continue
        named, removed = found.index(journal), _last(found, Event("remove", f"{file}{JOURNAL}"))
        place = Event("sync", os.path.dirname(file))  # noqa: PTH120
        if Event("sync", journal.path) not in found[:named]:
            wrong.append(f"the journal of {file} is not synced before it gets its name")
        if place not in found[named:first]:
            wrong.append(f"{file} is written to before its journal is sure to be there")
        if Event("remove", journal.goal) in found[named:last]:
            wrong.append(f"{file} is written to when its journal is gone")
        if Event("sync", file) not in found[last:removed]:
            wrong.append(f"the journal of {file} is removed before the file is synced")
        if place not in found[removed:]:
            wrong.append(f"the folder of {file} is not synced after its journal is removed")
    return wrong


def _after_recovery(found: list[Event], journal: str) -> list[Event]:
    """Leave out what was done under the journal of an earlier run, which had its name already."""
    named = next((i for i, e in enumerate(found) if e.kind == "name" and e.goal == journal), 0)
    earlier = [i for i, e in enumerate(found[:named]) if e == Event("remove", journal)]
    return found[earlier[-1] + 1 :] if earlier else found


def _last(found: list[Event], event: Event) -> int:
    return len(found) - 1 - found[::-1].index(event) if event in found else len(found)
