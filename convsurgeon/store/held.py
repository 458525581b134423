"""Files held for a write in place: opened, locked, and fit for it."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from convsurgeon.errors import OutputError
from convsurgeon.store.opening import unreadable

_ANY_WRITE = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_NEW_FILE = "write a new file instead: leave --in-place away"
# A blob of a cache is named by its content, so that nobody looks whether that is still there.
_BLOBS = "blobs"
_SNAPSHOTS = "snapshots"
_CACHE_MARKS = ("blobs", "refs")

Held = Mapping[Path, int]
"""Open descriptors by path."""


@contextmanager
def held(paths: Sequence[Path]) -> Iterator[Held]:
    """Open files for writing and lock them, all or none.

    The lock is one of `flock`: it ends with the process, however that ends.

    Raises:
        OutputError: CS078 where another run holds one of them, CS079 where one cannot be written,
            CS074 where one is a link.
        UnreadableError: CS030, CS037.
    """
    with ExitStack() as stack:
        yield {path: stack.enter_context(_locked(path)) for path in paths}


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    fd = _opened(path)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise busy(path) from None
        except OSError as error:
            raise _unwritable(path, f"cannot be locked: {error.strerror}") from None
        if not _is_at(fd, path):  # replaced between the two calls
            raise busy(path)
        yield fd
    finally:
        with suppress(OSError):  # every byte that matters is synced and read back
            os.close(fd)


def _opened(path: Path) -> int:
    try:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        fd = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _shared(path, "it is a symbolic link") from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ETXTBSY):
            raise _unwritable(path, f"cannot be opened for writing: {error.strerror}") from None
        raise unreadable(path, error) from None
    # Whom permissions do not bind, root, still means them.
    if not os.fstat(fd).st_mode & _ANY_WRITE:
        os.close(fd)
        raise _unwritable(path, "is read-only by its mode")
    return fd


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def busy(path: Path) -> OutputError:
    """Return the error for a file that another run writes to."""
    message = "another run of convsurgeon is rewriting this file in place"
    return OutputError("CS078", message, where=path, hint="run again when it has finished")


def check_own(path: Path) -> None:
    """Refuse a file that is also somebody else's: what is written to it shows under every name.

    Raises:
        OutputError: CS074 for a symbolic link, for several hard links, and in a cache.
    """
    found = os.lstat(path)
    if stat.S_ISLNK(found.st_mode):
        raise _shared(path, "it is a symbolic link")
    if found.st_nlink > 1:
        raise _shared(path, f"it has {found.st_nlink} hard links")
    for folder in Path(os.path.realpath(path)).parents:
        if folder.name == _BLOBS or (folder.name == _SNAPSHOTS and _is_cache(folder.parent)):
            raise _shared(path, "it lies in a cache of downloads")


def _is_cache(folder: Path) -> bool:
    return "--" in folder.name or any((folder / mark).is_dir() for mark in _CACHE_MARKS)


def _shared(path: Path, why: str) -> OutputError:
    message = f"not rewritten in place: {why}, so others would see the change"
    return OutputError("CS074", message, where=path, hint=_NEW_FILE)


def _unwritable(path: Path, why: str) -> OutputError:
    return OutputError("CS079", f"not rewritten in place: it {why}", where=path, hint=_NEW_FILE)
