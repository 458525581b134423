"""Ranges of two files, compared byte for byte in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from convsurgeon.store import COMPARED, Reader

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

Progress = Callable[[int], None]
_Work = Callable[[], bool]

SHARE = 8 << 20
"""Bytes that each of two threads compares in its turn: what is read stays all but sequential."""
ALONE = 64 << 20
"""Bytes below which starting a thread takes longer than it saves."""


def equal_bytes(
    before: Reader, after: Reader, begin: int, end: int, shift: int, progress: Progress
) -> bool:
    """Compare a range of one file with the range of another that lies `shift` bytes further on.

    Most of the time goes to the kernel, which copies what it has read into our memory. So a second
    thread halves it, where there is a second processor.
    """
    if not shift and before.place == after.place:
        progress(end - begin)  # one file under two headers: these are the same bytes
        return True
    with _helper(end - begin) as begun:
        for first in range(begin, end, 2 * SHARE):
            middle, last = min(first + SHARE, end), min(first + 2 * SHARE, end)
            rest = begun(partial(_equal, before, after, middle, last, shift))
            if not _equal(before, after, first, middle, shift) or not rest():
                return False
            progress(last - first)
    return True


def _equal(before: Reader, after: Reader, begin: int, end: int, shift: int) -> bool:
    # Whole buffers are compared, by memcmp; a comparison of views would look at every element.
    one, other = bytearray(0), bytearray(0)
    for first in range(begin, end, COMPARED):
        size = min(COMPARED, end - first)
        if len(one) != size:
            one, other = bytearray(size), bytearray(size)
        before.fill(memoryview(one), first)
        after.fill(memoryview(other), first + shift)
        if one != other:
            return False
    return True


@contextmanager
def _helper(size: int) -> Iterator[Callable[[_Work], _Work]]:
    """Give what begins some work beside ours, and returns what waits for its result."""
    if size < ALONE or (os.cpu_count() or 1) < 2:
        yield _later
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=1) as pool:
        yield partial(_begun, pool)


def _begun(pool: ThreadPoolExecutor, work: _Work) -> _Work:
    try:
        return pool.submit(work).result
    except RuntimeError:  # there is no room for a thread
        return _later(work)


def _later(work: _Work) -> _Work:
    """Leave the work to whoever asks for its result."""
    return work
