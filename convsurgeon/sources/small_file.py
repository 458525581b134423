"""The bytes of a file that somebody may have put there to hurt: a FIFO, a device, a huge one."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn


def content_of(path: Path, limit: int, stop: Callable[[str], NoReturn]) -> bytes:
    """Return the whole content of a regular file.

    Args:
        path: of the file.
        limit: most bytes to accept.
        stop: raises the caller's error for a reason.
    """
    try:
        # A FIFO under this name would block for ever without O_NONBLOCK.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123 (a descriptor has no path)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                stop("it is no regular file")
            content = file.read(limit + 1)
    except OSError as error:
        stop(str(error.strerror or error))
    if len(content) > limit:
        stop(f"it has more than {limit} bytes")
    return content
