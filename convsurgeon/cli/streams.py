"""The standard streams, whatever a caller made of them."""

from __future__ import annotations

import os
import sys
from typing import TextIO


def open_closed() -> None:
    """Give a closed stdin, stdout or stderr its number back, on which reading and writing fail.

    The next file that is opened would get the number: an output, into which every library that
    prints a warning would write. And Python has no stream at all then, where code expects one.
    """
    for number, wrong_way in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_RDONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, wrong_way), True)  # the lowest free one
    sys.stdout = _there(sys.stdout, 1)
    sys.stderr = _there(sys.stderr, 2)


def _there(stream: TextIO | None, number: int) -> TextIO:
    if stream is not None:
        return stream
    return open(number, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
