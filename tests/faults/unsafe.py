"""Writers that must not pass: each is convsurgeon with one promise taken out."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from convsurgeon.api.work import Worker
from convsurgeon.errors import OutputError
from convsurgeon.proof import FileVerdict
from convsurgeon.store import FileDraft, Outcome, draft, in_place, publish
from convsurgeon.store.journal import SUFFIX


def _never(*_: Any, **__: Any) -> None:
    """Do nothing."""


def _replace(owner: object, name: str, value: object) -> None:
    setattr(owner, name, value)


def never_syncs() -> None:
    """As under `eatmydata`: no sync reaches the kernel."""
    _replace(os, "fsync", _never)


def forgets_the_folder() -> None:
    """The content is synced, the name is not."""
    _replace(publish, "sync_folder", _never)


def syncs_too_late() -> None:
    """First the name, then the content."""
    real, publishing = os.fsync, FileDraft.publish
    late: list[int] = []

    def publish_first(new: FileDraft) -> Outcome:
        outcome = publishing(new)
        for fd in late:
            real(fd)
        return outcome

    def sync(fd: int) -> None:
        late.append(fd) if stat.S_ISREG(os.fstat(fd).st_mode) else real(fd)

    _replace(os, "fsync", sync)
    _replace(FileDraft, "publish", publish_first)


def writes_under_the_final_name() -> None:
    """Without a temporary."""

    def create(new: FileDraft) -> int:
        new.path = new.target
        return os.open(new.target, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)

    def done(new: FileDraft) -> Outcome:
        new.path = new.target.with_name("nothing")
        return Outcome.WRITTEN

    _replace(FileDraft, "_create", create)
    _replace(FileDraft, "publish", done)


def removes_the_old_one_first() -> None:
    """Then gives its name to the new one."""
    publishing = FileDraft.publish

    def remove_first(new: FileDraft) -> Outcome:
        new.target.unlink(missing_ok=True)
        return publishing(new)

    _replace(FileDraft, "publish", remove_first)


def ignores_how_much_was_written() -> None:
    """And does not look at what it has written."""
    real = os.pwrite

    def write(fd: int, data: Any, place: int) -> int:
        real(fd, data, place)
        return len(data)

    _replace(os, "pwrite", write)
    _replace(Worker, "prove", lambda *_: FileVerdict("", "", (), 0))


def swallows_errors() -> None:
    """Success, whatever the system says."""
    publishing = FileDraft.publish

    def silent(new: FileDraft) -> Outcome:
        try:
            return publishing(new)
        except OutputError:
            return Outcome.WRITTEN

    _replace(FileDraft, "publish", silent)


def leaves_temporaries() -> None:
    """After an error, for whoever comes next."""
    _replace(draft, "remove", _never)


def forgets_the_dead() -> None:
    """What a killed run left stays for ever."""
    _replace(draft, "remove_stale", _never)


def forgets_the_mode() -> None:
    """A file that few might read can be read by all."""
    _replace(publish, "keep_attributes", lambda *_: ())


def renames_twice() -> None:
    """A folder is replaced in two steps, and between them there is none."""
    _replace(publish, "exchange", lambda *_: False)


def keeps_no_journal() -> None:
    """In place, over the only header there is, piece by piece."""
    real = os.pwrite
    _replace(os, "pwrite", lambda fd, data, place: real(fd, data[:64], place))
    _replace(in_place, "_write_journals", _never)
    _replace(in_place, "journal_of", lambda path: path.with_name("none"))
    _replace(Path, "unlink", _never)


def removes_the_journal_first() -> None:
    """In place: before what it can undo is on the disk."""
    putting = in_place.put

    def put(path: Path, *rest: Any) -> None:
        journal = path.with_name(path.name + SUFFIX)
        content = journal.read_bytes()
        journal.unlink()
        putting(path, *rest)
        journal.write_bytes(content)

    _replace(in_place, "put", put)


WRITERS: dict[str, Callable[[], None]] = {
    writer.__name__.replace("_", " "): writer
    for writer in (
        never_syncs,
        forgets_the_folder,
        syncs_too_late,
        writes_under_the_final_name,
        removes_the_old_one_first,
        ignores_how_much_was_written,
        swallows_errors,
        leaves_temporaries,
        forgets_the_dead,
        forgets_the_mode,
        renames_twice,
        keeps_no_journal,
        removes_the_journal_first,
    )
}
