"""What the journal of an interrupted run asks for, done before anyone reads the file."""

from __future__ import annotations

import os
from pathlib import Path

from convsurgeon.errors import ConvsurgeonError, OutputError
from convsurgeon.store.files import sync, writing
from convsurgeon.store.held import Held, held
from convsurgeon.store.in_place import beginning, forget, put
from convsurgeon.store.interrupts import uninterrupted
from convsurgeon.store.journal import MAX_BYTES, SUFFIX, Journal, Member, journal_of
from convsurgeon.store.opening import is_there, opened

_BLOCK = 512


def recover(path: Path) -> None:
    """Finish what an interrupted run left beside a file; nothing where it left nothing.

    All files of the transaction become new if all of them are, and old otherwise. A fault on the
    way leaves the journal, and the next call begins again.

    Args:
        path: the file itself, no link to it.

    Raises:
        OutputError: CS077 where the journal is damaged, of another file, or cannot be acted on;
            CS078 where the run is still at work.
    """
    while _journal_at(path) is not None:
        try:
            _recover(path)
        except ConvsurgeonError as error:
            if error.code in ("CS077", "CS078"):
                raise
            message = f"an interrupted run has to be undone first: {error.message}"
            hint = "make the file and its folder writable for one run of any command"
            raise OutputError("CS077", message, where=error.where or path, hint=hint) from None


def _recover(path: Path) -> None:
    whole = _transaction(path)
    members = [path.with_name(member.name) for member in whole.members] if whole else [path]
    with held(members) as files:
        if _transaction(path) != whole:
            return  # another run did it, or began anew, before the lock was ours
        if whole is not None:
            _finish(whole, path.parent, files)
            return
        with writing(path):  # left over from a transaction that has ended
            journal_of(path).unlink(missing_ok=True)
            sync(path.parent)


def _transaction(path: Path) -> Journal | None:
    """Return the transaction that a file is a part of; None where it has ended."""
    found = _journal_at(path)
    if found is None or found.members:
        return found
    whole = _journal_at(path.with_name(found.leader))
    names = [member.name for member in whole.members] if whole else []
    return whole if path.name in names else None


def _journal_at(path: Path) -> Journal | None:
    place = journal_of(path)
    if not is_there(place):
        return None
    try:
        with opened(place) as fd, open(fd, "rb", closefd=False) as file:
            _check_owner(path, os.fstat(fd).st_uid)
            journal = Journal.parse(file.read(MAX_BYTES))
    except ConvsurgeonError as error:
        if error.code != "CS030":
            raise _useless(path, error.message) from None
        if os.path.islink(place):  # noqa: PTH114 - a fault here shows in what is asked next
            raise _useless(path, "it is a symbolic link to nothing") from None
        return None  # removed by the run that it belongs to
    except ValueError as error:
        raise _useless(path, str(error)) from None
    if journal.members and journal.leader != path.name:
        raise _useless(path, "it is about a file of another name")
    return journal


def _check_owner(path: Path, owner: int) -> None:
    # In a folder that everybody may write to, anybody can put a journal beside the file.
    files = {path.lstat().st_uid} if is_there(path) else set()
    if owner not in files | {0, os.geteuid()}:
        raise ValueError("another user wrote it")


def _useless(path: Path, why: str) -> OutputError:
    message = f"the journal of an interrupted run cannot be used: {why}"
    hint = f"if the file is known to be whole, remove {path.name}{SUFFIX}; else fetch it again"
    return OutputError("CS077", message, where=path, hint=hint)


def _finish(journal: Journal, folder: Path, files: Held) -> None:
    new = [_is_new(folder / member.name, files, member) for member in journal.members]
    for member in journal.members:
        put(folder / member.name, files, member.new if all(new) else member.old)
    leader = folder / journal.leader
    with uninterrupted():
        with writing(leader):
            journal_of(leader).unlink()
        forget(journal, folder)


def _is_new(path: Path, files: Held, member: Member) -> bool:
    """Tell whether a file is new already; otherwise it is old, or torn between the two.

    Raises:
        OutputError: CS077 where it is neither, because it was copied or others wrote to it.
    """
    fd = files[path]
    stat = os.fstat(fd)
    if (stat.st_ino, stat.st_size) != (member.inode, member.size):
        raise _useless(path, "the file is not the one that was rewritten, but a copy or another")
    with writing(path):
        found = beginning(fd, len(member.old.prefix))
    if not _is_mixture(found, member.old.prefix, member.new.prefix):
        raise _useless(path, "another program has written to the file since")
    return found == member.new.prefix


def _is_mixture(found: bytes, old: bytes, new: bytes) -> bool:
    """Tell whether every byte is one of the two that may stand there."""
    for begin in range(0, len(old), _BLOCK):
        part = slice(begin, begin + _BLOCK)
        if found[part] in (old[part], new[part]):
            continue
        if len(found) != len(old):
            return False
        if any(c not in (a, b) for c, a, b in zip(found[part], old[part], new[part], strict=True)):
            return False
    return True
