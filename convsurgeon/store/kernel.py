"""What Linux does with files beyond reading and writing; nothing of it is needed, only faster.

Every function says whether the system did it. Elsewhere, and on file systems that cannot, it did
not, and the caller copies.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from functools import cache

_FICLONERANGE = 0x4020940D
_SYNC_FILE_RANGE_WRITE = 2
_SECTOR = 512


def share(source: int, begin: int, count: int, target: int, place: int) -> bool:
    """Let a range of `target` refer to the blocks of `source`, without a byte being copied.

    Args:
        source: descriptor of the file that has the bytes.
        begin: the first of them; a multiple of the file system's block, as `place` is.
        count: how many; a multiple of the block, unless it ends where the file ends.
        target: descriptor of the file that gets them.
        place: where.
    """
    request = struct.pack("qQQQ", source, begin, count, place)
    while True:
        try:
            fcntl.ioctl(target, _FICLONERANGE, request)
        except InterruptedError:
            continue
        except OSError:
            return False
        return True


def by_range(source: int, begin: int, count: int, target: int, place: int) -> int:
    """Copy at most `count` bytes by `copy_file_range`; return how many.

    Raises:
        OSError: where the kernel or the file system does not do it.
    """
    return os.copy_file_range(source, target, count, begin, place)


def by_sending(source: int, begin: int, count: int, target: int, place: int) -> int:
    """Copy at most `count` bytes by `sendfile`; return how many.

    Raises:
        OSError: where the kernel does not do it.
    """
    os.lseek(target, place, os.SEEK_SET)
    return os.sendfile(target, source, begin, count)


Way = Callable[[int, int, int, int, int], int]
WAYS: tuple[Way, ...] = (by_range, by_sending) if hasattr(os, "copy_file_range") else ()
"""How the kernel copies a range from file to file, the cheapest first."""


def start_write_back(fd: int, begin: int, count: int) -> None:
    """Let the disk begin with a range while the next is copied; it is a hint.

    It neither waits nor reports: `fsync` does both. The advice that Python offers,
    POSIX_FADV_DONTNEED, begins in the same way but also drops pages that are compared in a moment.
    """
    if call := _sync_file_range():
        call(fd, begin, count, _SYNC_FILE_RANGE_WRITE)


@cache
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    import ctypes  # for large files alone

    call = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if call is not None:
        call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return call


def stretches(fd: int, begin: int, end: int) -> Iterator[tuple[int, int, bool]]:
    """Yield the ranges of an open file, and whether each holds data or is a hole.

    A file that has as many blocks as bytes is one range, without asking further.
    """
    found = os.fstat(fd)
    if found.st_blocks * _SECTOR >= found.st_size or not hasattr(os, "SEEK_DATA"):
        yield begin, end, True
        return
    while begin < end:
        data = min(_next(fd, begin, os.SEEK_DATA, end), end)
        if begin < data:
            yield begin, data, False
        begin = data
        if begin < end:
            hole = min(_next(fd, begin, os.SEEK_HOLE, end), end)
            # A hole that begins where data was just said to begin would be one for ever.
            hole = hole if hole > begin else end
            yield begin, hole, True
            begin = hole


def _next(fd: int, begin: int, what: int, end: int) -> int:
    try:
        return os.lseek(fd, begin, what)
    except OSError as error:
        return end if error.errno == errno.ENXIO else begin
