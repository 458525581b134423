"""What the bytes of a file come in: pieces of memory, and places in other files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

CHUNK = 1 << 20
"""Bytes per read: larger ones fall out of the processor's cache and are several times slower."""
COMPARED = 1 << 18
"""Bytes per step of a comparison: both sides of it stay in the cache until they are compared."""

Piece = bytes | bytearray | memoryview
"""Bytes in memory."""


class Extent(NamedTuple):
    """Bytes of an open file, which the system can copy without showing them to us.

    Attributes:
        fd: descriptor of the file.
        begin: the first of them.
        end: behind the last of them.
        path: where the file is, for errors.
    """

    fd: int
    begin: int
    end: int
    path: Path


Part = Piece | Extent
