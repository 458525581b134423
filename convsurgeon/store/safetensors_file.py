"""Safetensors files: headers at once, data in chunks of a mebibyte."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from convsurgeon.errors import ConvsurgeonError
from convsurgeon.header import Header, header_length, parse
from convsurgeon.limits import DEFAULT_MAX_HEADER
from convsurgeon.store.opening import changed, opened, unreadable
from convsurgeon.store.parts import CHUNK, Extent, Part, Piece
from convsurgeon.store.sniff import misnamed
from convsurgeon.store.source import Reader, Ready, Stamp, whole

_SNIFF = 64
_NEXT = {
    "CS036": "fetch it again",
    "CS040": "write it again with the library that made it",
    "CS041": "no file of the format has such a header: fetch it again",
}


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
            yield SafetensorsReader(self, fd)
            self.stamp.check(fd, self.path)


@dataclass(frozen=True)
class SafetensorsReader:
    """Reads an open safetensors file; see `Reader`.

    Attributes:
        file: which.
        fd: its descriptor.
        ready: asked before anything is read.
    """

    file: SafetensorsFile
    fd: int
    ready: Ready = whole

    @property
    def place(self) -> object:
        """See `Reader.place`."""
        return self.file.stamp.device, self.file.stamp.inode, self._data

    def prefix(self) -> bytes:
        """See `Reader.prefix`."""
        return b"".join(_pread(self.fd, 0, self._data, self.file.path, self.ready))

    def chunks(self, begin: int, end: int) -> Iterator[Piece]:
        """See `Reader.chunks`."""
        begin, end = self._data + begin, self._data + end
        return _pread(self.fd, begin, end, self.file.path, self.ready)

    def parts(self, begin: int, end: int) -> Iterator[Part]:
        """See `Reader.parts`."""
        self.ready(self._data + end)
        yield Extent(self.fd, self._data + begin, self._data + end, self.file.path)

    def read(self, begin: int, end: int) -> bytes:
        """See `Reader.read`."""
        return b"".join(self.chunks(begin, end))

    def fill(self, buffer: memoryview, begin: int) -> None:
        """See `Reader.fill`."""
        done = 0
        self.ready(self._data + begin + len(buffer))
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
        file = read_open(fd, path, stamp, limit)
        stamp.check(fd, path)
    return file


def read_open(
    fd: int, path: Path, stamp: Stamp, limit: int, ready: Ready = whole
) -> SafetensorsFile:
    """Read and check the header of an open file of `stamp.size` bytes; see `read_alone`."""
    first = b"".join(_pread(fd, 0, min(stamp.size, _SNIFF), path, ready))
    wrong = misnamed(first)
    if wrong:
        raise wrong.at(path)
    try:
        length = header_length(first[:8], stamp.size, limit)
        text = b"".join(_pread(fd, 8, 8 + length, path, ready))
        header = parse(text, stamp.size - 8 - length)
    except ConvsurgeonError as error:
        error.hint = error.hint or _NEXT.get(error.code, "")
        raise error.at(path) from None
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


def _pread(fd: int, begin: int, end: int, path: Path, ready: Ready) -> Iterator[bytes]:
    position = begin
    while position < end:
        size = min(CHUNK, end - position)
        ready(position + size)
        try:
            piece = os.pread(fd, size, position)
        except OSError as error:
            raise unreadable(path, error) from None
        if not piece:
            raise changed(path, "became shorter")
        yield piece
        position += len(piece)
