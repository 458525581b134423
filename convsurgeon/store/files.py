"""What publishing needs from the file system, one small function each."""

from __future__ import annotations

import errno
import fcntl
import glob
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from convsurgeon.errors import NotSyncedError, OutputError
from convsurgeon.store.listing import TEMPORARY, below
from convsurgeon.store.parts import COMPARED
from convsurgeon.store.source import Ready, whole

_NEXT = {
    errno.ENOSPC: "free some space, or name another place",
    errno.EDQUOT: "free some of your quota, or name another place",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), or name another place",
    errno.EIO: "check the disk",
}
_OTHERWISE = "check the folder and its permissions, or name another place"
OLD = f".old{TEMPORARY}"
"""How the name of a folder ends while another takes its place."""


def same_bytes(first: Path, second: Path) -> bool:
    """Compare two files in bounded memory."""
    if first.stat().st_size != second.stat().st_size:
        return False
    return begins_alike(first, second, whole)


def begins_alike(first: Path, second: Path, ready: Ready) -> bool:
    """Tell whether a file begins with all that another one holds, in bounded memory.

    Args:
        first: the file that may be shorter.
        second: the other one.
        ready: returns once the second has its first so many bytes.
    """
    one, other = bytearray(COMPARED), bytearray(COMPARED)
    with first.open("rb", buffering=0) as left, second.open("rb", buffering=0) as right:
        size = os.fstat(left.fileno()).st_size
        for begin in range(0, size, COMPARED):
            if size - begin < COMPARED:
                one, other = bytearray(size - begin), bytearray(size - begin)
            ready(begin + len(other))
            if not _filled(left, one) or not _filled(right, other) or one != other:
                return False
    return True


def _filled(file: io.FileIO, buffer: bytearray) -> bool:
    view, done = memoryview(buffer), 0
    while done < len(buffer) and (count := file.readinto(view[done:])):
        done += count
    return done == len(buffer)


def same_tree(first: Path, second: Path) -> bool:
    """Compare two folders: the same names, and the same bytes under each."""
    names = {p.relative_to(first) for p in below(first)}
    if names != {p.relative_to(second) for p in below(second)}:
        return False
    files = [name for name in sorted(names) if not (first / name).is_dir()]
    return all((second / n).is_file() and same_bytes(first / n, second / n) for n in files)


def is_empty_folder(path: Path) -> bool:
    """Tell whether it is a folder that a rename may replace."""
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())


def hard_link(old: Path, new: Path, target: Path) -> None:
    """Give a file one more name; of a symbolic link, the file that it leads to gets it.

    Args:
        old: a name that it has.
        new: the one that it gets now.
        target: the one that it is to have in the end, for errors.

    Raises:
        OutputError: CS094 where that is not possible.
    """
    try:
        os.link(os.path.realpath(old, strict=True), new)
    except OSError as error:
        why = "it lies on another file system" if error.errno == errno.EXDEV else error.strerror
        hint = "leave --link away, or name an output on the same file system"
        message = f"{old.name} cannot be linked: {why}"
        raise OutputError("CS094", message, where=target, hint=hint) from None


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn what the system refuses into one clear error."""
    try:
        yield
    except OSError as error:
        message = f"cannot write: {error.strerror or error}"
        hint = f"nothing was left behind; {_NEXT.get(error.errno or 0, _OTHERWISE)}"
        raise OutputError("CS071", message, where=target, hint=hint) from None


def sync(folder: Path) -> None:
    """Sync a folder."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_folder(target: Path) -> None:
    """Sync the folder that holds `target`, so that its name survives a power cut."""
    try:
        sync(target.parent)
    except OSError as error:
        message = f"the output is in place, but the last sync failed: {error.strerror}"
        raise NotSyncedError("CS073", message, where=target) from None


def remove_stale(target: Path) -> None:
    """Remove temporaries of this target whose process is gone.

    If it died between the two renames that replace a folder, the old folder gets its name back.
    """
    for path in target.parent.glob(f".{glob.escape(target.name)}.*{TEMPORARY}"):
        with suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if path.name.endswith(OLD) and not os.path.lexists(target):
                    path.rename(target)
                else:
                    remove(path)
            finally:
                os.close(fd)


def remove(path: Path) -> None:
    """Remove a file or a folder; it may be gone already."""
    with suppress(FileNotFoundError, NotADirectoryError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
