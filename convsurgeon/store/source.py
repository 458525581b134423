"""What a checkpoint file is to whoever reads it, whatever its format."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol

from convsurgeon.header import Header
from convsurgeon.store.opening import changed
from convsurgeon.store.parts import Part, Piece

Ready = Callable[[int], None]
"""Returns once a file has its first so many bytes."""


def whole(_: int) -> None:
    """Return at once: the file is whole."""


class Reader(Protocol):
    """The bytes of one file, while it is open."""

    @property
    def place(self) -> object:
        """Equal for two readers where both read the same bytes of one file."""

    def prefix(self) -> bytes:
        """Return the length and the header as they stand in the file."""

    def chunks(self, begin: int, end: int) -> Iterator[Piece]:
        """Yield the data from `begin` to `end`, counted from the end of the header."""

    def parts(self, begin: int, end: int) -> Iterator[Part]:
        """Yield the data from `begin` to `end` in what is written fastest.

        Extents are good for as long as the file is open.
        """

    def read(self, begin: int, end: int) -> bytes:
        """Return the data from `begin` to `end` in one piece."""

    def fill(self, buffer: memoryview, begin: int) -> None:
        """Read the data from `begin` on into `buffer`, all of it; also from two threads at once.

        Reading into memory that is there already is several times faster than `chunks`, whose every
        piece is new memory that the system has to map first.
        """


class Source(Protocol):
    """A file of tensors; a PyTorch file is seen as the safetensors file that it makes up."""

    @property
    def path(self) -> Path:
        """Where it is."""

    @property
    def header(self) -> Header:
        """Its tensors and metadata."""

    @property
    def size(self) -> int:
        """Bytes as safetensors."""

    @property
    def stamp(self) -> Stamp:
        """The file as it was when its header was read."""

    @property
    def dropped(self) -> tuple[str, ...]:
        """What it holds beside tensors."""

    def reader(self) -> AbstractContextManager[Reader]:
        """Open it.

        Raises:
            UnreadableError: CS038, at the end, where it changed in the meantime.
        """


class Stamp(NamedTuple):
    """What changes when somebody writes to a file."""

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, fd: int) -> Stamp:
        """Take it from an open file."""
        s = os.fstat(fd)
        return cls(s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns)

    def check(self, fd: int, path: Path) -> None:
        """Raise CS038 where the open file has another one by now."""
        if Stamp.of(fd) != self:
            raise changed(path, "changed")
