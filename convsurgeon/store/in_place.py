"""A new header in front of data that stays where it is, safe at every instant.

A transaction is a journal on disk, then what recovery would do with it:

1. the journal, with all that the files may be, is written, synced, renamed, its folder synced;
2. each header is written over the old one of the same length, synced, read back; then its sidecar;
3. the caller looks at the result;
4. the leader's journal is removed and the folder synced: from then on the files are new.

A fault before 4 puts the old headers back; a process that is killed leaves the journal, by which
`recover` puts everything back, or goes on to 4 where all headers are new. Either may be cut short
and done again. Nothing is taken from the page cache on trust: whatever is kept is written and
synced again, since a header that reads well may never have reached the disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from convsurgeon.errors import ConvsurgeonError, NotSyncedError, OutputError
from convsurgeon.header.parse import LENGTH_BYTES
from convsurgeon.store.attributes import keep_attributes
from convsurgeon.store.draft import Outcome
from convsurgeon.store.files import remove_stale, sync, writing
from convsurgeon.store.held import Held, busy
from convsurgeon.store.interrupts import Hold
from convsurgeon.store.journal import SUFFIX, Journal, State, journal_of
from convsurgeon.store.opening import is_there
from convsurgeon.store.publish import FileDraft
from convsurgeon.store.sidecar import sidecar_of


def commit(journal: Journal, files: Held, check: Callable[[], None]) -> None:
    """Make every file of a journal new, or leave every one as it was.

    Args:
        journal: of all files.
        files: held, in one folder.
        check: called when all headers are new; whatever it raises undoes them.

    Raises:
        OutputError: CS078 where a file has a journal already. CS071 where the system refuses; the
            files are as before. CS077 where it refuses
            to put them back as well: the journal stays, and the next command does it.
        NotSyncedError: CS073: the files are new, but the last sync failed.
    """
    folder = next(iter(files)).parent
    leader = folder / journal.leader
    for path in files:
        if is_there(journal_of(path)):  # of a run that was cut off after this one had read the file
            raise busy(path)
    began, hold = False, Hold()
    try:
        try:
            _write_journals(journal, folder, files)
            began = True
            for member in journal.members:
                put(folder / member.name, files, member.new)
            check()
            hold.begin()  # from the point of no return until nothing is left over
            with writing(leader):
                journal_of(leader).unlink()
        except BaseException as error:
            _take_back(journal, files, error, began=began)
            raise
        forget(journal, folder)
    finally:
        hold.end()


def _write_journals(journal: Journal, folder: Path, files: Held) -> None:
    leader = folder / journal.leader
    try:
        journal.check_names()  # what recovery would not act on must not be relied on
        content = journal.to_bytes()
    except ValueError as error:
        message = f"not possible in place: {error}"
        hint = "write a new file instead: leave --in-place away"
        raise OutputError("CS075", message, where=leader, hint=hint) from None
    # The leader's first: without it the others lead nowhere, and are removed by whoever finds them.
    _write_beside(journal_of(leader), content, leader)
    for path in files:
        if path != leader:
            _write_beside(journal_of(path), Journal(journal.leader).to_bytes(), path)


def _write_beside(place: Path, content: bytes, file: Path) -> None:
    """Write what lies beside a file, whole or not at all, for whoever may use the file."""
    with FileDraft(place, force=True) as draft:
        draft.write([content])
        with writing(place):
            fd = os.open(draft.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                keep_attributes(fd, file)
                os.fsync(fd)
            finally:
                os.close(fd)
        try:
            if draft.publish() is Outcome.SAME:  # that may be there in the page cache only
                with writing(place):
                    _sync(place)
                    sync(place.parent)
        except NotSyncedError as error:
            raise OutputError("CS071", f"cannot write: {error.message}", where=place) from None


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def put(path: Path, files: Held, state: State) -> None:
    """Make a file one of the two things that it may be."""
    fd = files[path]
    with writing(path):
        position, rest = LENGTH_BYTES, memoryview(state.prefix)[LENGTH_BYTES:]
        while rest:
            count = os.pwrite(fd, rest, position)
            if not count:
                raise OutputError("CS071", "the system wrote nothing", where=path)
            position, rest = position + count, rest[count:]
        os.fsync(fd)
        if beginning(fd, len(state.prefix)) != state.prefix:
            raise OutputError("CS071", "the header reads back otherwise than written", where=path)
        place = sidecar_of(path)
        if state.sidecar is None:
            remove_stale(place)
            place.unlink(missing_ok=True)
            sync(path.parent)
    if state.sidecar is not None:
        _write_beside(place, state.sidecar, path)


def beginning(fd: int, length: int) -> bytes:
    """Return the first bytes of an open file, fewer where it has no more."""
    found = b""
    while len(found) < length and (piece := os.pread(fd, length - len(found), len(found))):
        found += piece
    return found


def _take_back(journal: Journal, files: Held, error: BaseException, *, began: bool) -> None:
    folder = next(iter(files)).parent
    leader = folder / journal.leader
    try:
        if began and not is_there(journal_of(leader)):
            with suppress(NotSyncedError):  # interrupted behind the point of no return: it is done
                forget(journal, folder)
            return
        for member in journal.members if began else ():
            put(folder / member.name, files, member.old)
        with writing(leader):
            journal_of(leader).unlink(missing_ok=True)
        with suppress(NotSyncedError):  # a journal of files that are as before does no harm
            forget(journal, folder)
    except ConvsurgeonError as again:
        message = f"{error}; and putting it back failed: {again.message}"
        hint = f"{leader.name}{SUFFIX} has the old header: mend the cause, then run any command"
        raise OutputError("CS077", message, where=leader, hint=hint) from None


def forget(journal: Journal, folder: Path) -> None:
    """Remove what is left of a transaction whose leader's journal is gone."""
    try:
        sync(folder)
        for member in journal.members:
            path = folder / member.name
            journal_of(path).unlink(missing_ok=True)
            remove_stale(journal_of(path))
            remove_stale(sidecar_of(path))
        sync(folder)
    except OSError as error:
        message = f"the file is rewritten, but the last sync failed: {error.strerror}"
        raise NotSyncedError("CS073", message, where=folder / journal.leader) from None
