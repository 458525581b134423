"""Opening files to read them, and what stands against it in words."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convsurgeon.errors import UnreadableError


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a regular file for reading; what the system refuses becomes one clear error.

    Raises:
        UnreadableError: CS030 where there is none, CS037 where it cannot be read.
    """
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for a writer for ever.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise unreadable(path, error) from None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            what = "a folder" if stat.S_ISDIR(os.fstat(fd).st_mode) else "no regular file"
            hint = "name a file that holds the weights"
            raise UnreadableError("CS037", f"this is {what}", where=path, hint=hint)
        yield fd
    finally:
        os.close(fd)


def itself(path: Path) -> Path:
    """Return the file that a path leads to, where it is a link.

    Every other path stays as it is: a relative one may be all that permissions allow.
    """
    is_link = os.path.islink(path)  # noqa: PTH114 - no error for a name that is too long
    return Path(os.path.realpath(path)) if is_link else path


def is_there(path: Path) -> bool:
    """Tell whether a name is taken; unlike `os.path.lexists`, a failing disk does not say no.

    Raises:
        UnreadableError: CS037 where the system cannot tell.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise unreadable(path, error) from None
    return True


def unreadable(path: Path, error: OSError) -> UnreadableError:
    """Return the error for a path that the system refuses to open."""
    if isinstance(error, FileNotFoundError):
        return UnreadableError("CS030", "there is no such file", where=path, hint="check the path")
    message = f"cannot be read: {error.strerror or error}"
    return UnreadableError("CS037", message, where=path, hint="check the path and its permissions")


def changed(path: Path, how: str) -> UnreadableError:
    """Return the error for a source that somebody wrote to."""
    message = f"the file {how} while it was read"
    hint = "run again when nothing writes to it"
    return UnreadableError("CS038", message, where=path, hint=hint)
