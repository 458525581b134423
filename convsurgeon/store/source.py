"""Reading checkpoint files: headers at once, data in chunks of a mebibyte."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from convsurgeon.errors import ConvsurgeonError
from convsurgeon.header import Header, header_length, parse
from convsurgeon.limits import DEFAULT_MAX_HEADER
from convsurgeon.store.opening import changed, opened, unreadable
from convsurgeon.store.parts import CHUNK, Extent, Part, Piece
from convsurgeon.store.sniff import misnamed

_SNIFF = 64
_NEXT = {
    "CS036": "fetch it again",
    "CS040": "write it again with the library that made it",
    "CS041": "no file of the format has such a header: fetch it again",
}


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


@dataclass(frozen=True)
class SafetensorsFile:
    """A safetensors file whose header was read and found valid.

    Where its recipe stands in a `sidecar`, `header` has it among the metadata all the same.
    """

    path: Path
    header: Header
    header_length: int
    stamp: Stamp
    dropped: tuple[str, ...] = ()
    sidecar: Path | None = None

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.stamp.size

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """Open it; see `Source.reader`."""
        with opened(self.path) as fd:
            self.stamp.check(fd, self.path)
            yield _SafetensorsReader(self, fd)
            self.stamp.check(fd, self.path)


@dataclass(frozen=True)
class _SafetensorsReader:
    file: SafetensorsFile
    fd: int

    @property
    def place(self) -> object:
        return self.file.stamp.device, self.file.stamp.inode, self._data

    def prefix(self) -> bytes:
        return b"".join(_pread(self.fd, 0, self._data, self.file.path))

    def chunks(self, begin: int, end: int) -> Iterator[Piece]:
        return _pread(self.fd, self._data + begin, self._data + end, self.file.path)

    def parts(self, begin: int, end: int) -> Iterator[Part]:
        yield Extent(self.fd, self._data + begin, self._data + end, self.file.path)

    def read(self, begin: int, end: int) -> bytes:
        return b"".join(self.chunks(begin, end))

    def fill(self, buffer: memoryview, begin: int) -> None:
        done = 0
        while done < len(buffer):
            try:
                count = os.preadv(self.fd, [buffer[done:]], self._data + begin + done)
            except OSError as error:
                raise unreadable(self.file.path, error) from None
            if not count:
                raise changed(self.file.path, "became shorter")
            done += count

    @property
    def _data(self) -> int:
        return 8 + self.file.header_length


def read_alone(path: Path, limit: int = DEFAULT_MAX_HEADER) -> SafetensorsFile:
    """Read and check the header of a safetensors file, without what lies beside the file.

    Args:
        path: a regular file, or a symbolic link to one.
        limit: largest header to accept, in bytes.

    Raises:
        UnreadableError: CS030 to CS038, with what the file really is.
        HeaderError: CS040, CS041.
    """
    with opened(path) as fd:
        stamp = Stamp.of(fd)
        first = b"".join(_pread(fd, 0, min(stamp.size, _SNIFF), path))
        wrong = misnamed(first)
        if wrong:
            raise wrong.at(path)
        try:
            length = header_length(first[:8], stamp.size, limit)
            text = b"".join(_pread(fd, 8, 8 + length, path))
            header = parse(text, stamp.size - 8 - length)
        except ConvsurgeonError as error:
            error.hint = error.hint or _NEXT.get(error.code, "")
            raise error.at(path) from None
        stamp.check(fd, path)
    return SafetensorsFile(path, header, length, stamp)


def whole_file(path: Path) -> Iterator[Extent]:
    """Yield the bytes of a regular file, open until the next is asked for.

    Raises:
        UnreadableError: CS030, CS037, CS038.
    """
    with opened(path) as fd:
        stamp = Stamp.of(fd)
        yield Extent(fd, 0, stamp.size, path)
        stamp.check(fd, path)


def _pread(fd: int, begin: int, end: int, path: Path) -> Iterator[bytes]:
    position = begin
    while position < end:
        try:
            piece = os.pread(fd, min(CHUNK, end - position), position)
        except OSError as error:
            raise unreadable(path, error) from None
        if not piece:
            raise changed(path, "became shorter")
        yield piece
        position += len(piece)
