"""One new file, written from front to back by the cheapest way that the system offers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from convsurgeon.errors import OutputError
from convsurgeon.store.kernel import WAYS, share, start_write_back, stretches
from convsurgeon.store.opening import changed, unreadable
from convsurgeon.store.parts import CHUNK, Extent, Part, Piece

Written = Callable[[int], None]
"""Told how many bytes were written since the last call."""

BLOCK = 4096
"""What file systems share: ranges that begin and end at multiples of it. The header of an output
keeps the data's place within it (`header.padded_length`)."""
STEP = 32 << 20
"""Bytes per call of the kernel: between two calls a signal is heard, progress is told, and the disk
is given the last step to write."""


_WORTH_GIVING = 1 << 18
"""Bytes at the end of a file that the disk is given at once: the sync may be some files away."""


def unheard(_: int) -> None:
    """Tell nobody how many bytes were written."""


def write_parts(fd: int, parts: Iterable[Part], target: Path, written: Written = unheard) -> None:
    """Write parts, one after another, to a new and empty file.

    Args:
        fd: descriptor of the file.
        parts: what to write.
        target: its final name, for errors.
        written: told of progress.

    Raises:
        UnreadableError: CS037, CS038 where a source of an extent is at fault.
        OutputError: CS071 where the system writes nothing.
        OSError: where it refuses to write.
    """
    file = _NewFile(fd, target, written)
    for part in parts:
        if isinstance(part, Extent):
            file.copy(part)
        else:
            file.write(part)
    os.ftruncate(fd, file.size)  # a hole at the end is not there until somebody says so
    file.give(_WORTH_GIVING)


class _NewFile:
    """A file that grows.

    What the kernel refuses to do in one way is done in the next, whatever the reason. The last way
    reads and writes by itself, so that its error says which of the two files is at fault.
    """

    def __init__(self, fd: int, target: Path, written: Written) -> None:
        self.fd, self.target, self.written = fd, target, written
        self.size = 0
        self._given = 0  # how much of it the disk was given to write
        self._shares = True
        self._ways = list(WAYS)
        self._buffer = bytearray(0)

    def write(self, piece: Piece) -> None:
        """Append bytes."""
        rest = memoryview(piece).cast("B")
        while rest:
            count = self._put(rest)
            self._grown(count)
            rest = rest[count:]

    def copy(self, extent: Extent) -> None:
        """Append a range of another file: share what can be shared, copy the rest."""
        begin, end = self._shareable(extent)
        self._copy(extent, extent.begin, begin)
        if begin < end:
            self._shares = share(extent.fd, begin, end - begin, self.fd, self.size)
        if begin < end and self._shares:
            self._grown(end - begin)
            begin = end
        self._copy(extent, begin, extent.end)

    def _shareable(self, extent: Extent) -> tuple[int, int]:
        """Return the range within an extent that consists of whole blocks in both files."""
        begin = -(-extent.begin // BLOCK) * BLOCK
        end = extent.end
        if end != os.fstat(extent.fd).st_size:
            end -= end % BLOCK
        aligned = (extent.begin - self.size) % BLOCK == 0
        # Sharing a few blocks saves nothing, and leaves the file in fragments.
        worth = self._shares and aligned and end - begin >= CHUNK
        return (begin, end) if worth else (extent.begin, extent.begin)

    def _copy(self, extent: Extent, begin: int, end: int) -> None:
        for first, last, data in stretches(extent.fd, begin, end):
            if not data:
                self._grown(last - first)  # a hole stays a hole
                continue
            place = first
            while place < last:
                size = min(STEP, last - place)
                count = self._by_kernel(extent, place, size) or self._by_hand(extent, place, size)
                self._grown(count)
                place += count

    def _by_kernel(self, extent: Extent, begin: int, size: int) -> int:
        """Let the kernel copy some of a range; return how much, 0 where it cannot."""
        while self._ways:
            try:
                count = self._ways[0](extent.fd, begin, size, self.fd, self.size)
            except InterruptedError:
                continue
            except OSError:
                count = 0
            if count > 0:
                return count
            # Nothing before the end: some file systems say so when they mean "not by me".
            del self._ways[0]
        return 0

    def _by_hand(self, extent: Extent, begin: int, size: int) -> int:
        """Copy some of a range through memory."""
        if not self._buffer:
            self._buffer = bytearray(CHUNK)
        view = memoryview(self._buffer)[: min(size, CHUNK)]
        try:
            count = os.preadv(extent.fd, [view], begin)
        except OSError as error:
            raise unreadable(extent.path, error) from None
        if not count:
            raise changed(extent.path, "became shorter")
        return self._put(view[:count])

    def _put(self, piece: Piece) -> int:
        """Write some of a piece where the file ends; return how much."""
        count = os.pwrite(self.fd, piece, self.size)  # may be short: a full disk fails next time
        if not count:
            raise OutputError("CS071", "the system wrote nothing", where=self.target)
        return count

    def _grown(self, count: int) -> None:
        self.size += count
        self.give(STEP)
        self.written(count)

    def give(self, least: int) -> None:
        """Give the disk to write what it was not given yet, if that is worth a call."""
        if self.size - self._given >= least:
            start_write_back(self.fd, self._given, self.size - self._given)
            self._given = self.size
