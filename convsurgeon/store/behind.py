"""A file that is read while it is written.

Copying keeps one processor busy, and comparing the copy would keep one busy for half as long again.
So a thread writes, and whoever compares reads close behind it, for as long as what it reads is
still in memory; then the comparison costs no time of its own.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from convsurgeon.limits import FORMAT_MAX_HEADER
from convsurgeon.store.copying import Written
from convsurgeon.store.interrupts import INTERRUPTS, uninterrupted
from convsurgeon.store.opening import changed, opened
from convsurgeon.store.safetensors_file import SafetensorsFile, SafetensorsReader, read_open
from convsurgeon.store.source import Reader, Ready, Stamp, whole

ALONE = 16 << 20
"""Bytes below which starting a thread takes longer than it saves."""

_PAUSE, _LONGEST_PAUSE = 0.0005, 0.01
"""Seconds: a step of the writer takes some twenty milliseconds, a sync up to minutes."""

Write = Callable[[Written], object]
"""Writes a whole file, and syncs it; told whom to tell how many bytes it has written."""


class _StoppedError(Exception):
    """Ends a writer whose file nobody wants any more."""


class _Growth:
    """How much of a file is there: one thread adds to it, others wait.

    There is no lock in it. Ctrl-C may come at any instruction of the main thread, also between a
    lock's being taken and the block that would give it back, and then the writer would wait for
    ever, and the main thread for the writer. Numbers that one thread sets need none; who waits
    looks again after a moment.
    """

    def __init__(self) -> None:
        self._size = 0
        self._error: BaseException | None = None
        self._ended = self._stopped = False

    def run(self, write: Write) -> None:
        """Write, in this thread, and keep what went wrong for whoever waits."""
        signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)  # the main thread is to hear them
        try:
            write(self._grown)
        except BaseException as error:  # noqa: BLE001 - it is raised again where it is waited for
            self._error = error
        finally:
            self._ended = True

    def _grown(self, count: int) -> None:
        if self._stopped:
            raise _StoppedError
        self._size += count

    def wait(self, size: int) -> None:
        """Return once so many bytes are written, or no more will be.

        Raises:
            ConvsurgeonError: where writing them has failed, with its error.
        """
        pause = _PAUSE
        while self._size < size and not self._ended:
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        if self._error is not None:
            raise self._error

    def wait_for_end(self) -> None:
        """Return once the file is written and synced; see `wait`."""
        self.wait(sys.maxsize)

    def stop(self) -> None:
        """Let the writer end before its next step, unless it is done."""
        self._stopped = True


@dataclass(frozen=True)
class _GrowingFile(SafetensorsFile):
    """A safetensors file of which the header is there, and the data to come."""

    ready: Ready = whole

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        with opened(self.path) as fd:
            yield SafetensorsReader(self, fd, self.ready)


@dataclass(frozen=True)
class Following:
    """What is known of a new file before it is whole.

    Attributes:
        path: where it is.
        size: bytes that it will have.
        ready: returns once it has its first so many bytes.
    """

    path: Path
    size: int
    ready: Ready

    def file(self) -> SafetensorsFile:
        """Read the header, as soon as it is there.

        Raises:
            RefusedError: where it is not one, or cannot be written.
        """
        with opened(self.path) as fd:
            now = Stamp.of(fd)
            stamp = now._replace(size=self.size)
            # Whoever raised the limit for the source did so for what becomes of it.
            found = read_open(fd, self.path, stamp, FORMAT_MAX_HEADER, self.ready)
        return _GrowingFile(found.path, found.header, found.header_length, stamp, ready=self.ready)


def follows(size: int) -> bool:
    """Tell whether a file of so many bytes is read while it is written."""
    return size >= ALONE and (os.cpu_count() or 1) > 1


@contextmanager
def written_behind(path: Path, size: int, write: Write, progress: Written) -> Iterator[Following]:
    """Write a file, and let the body read it meanwhile; behind the body it is whole and synced.

    Args:
        path: where it is.
        size: bytes that it will have.
        write: writes it.
        progress: told of bytes written, where they are not read meanwhile: in this thread only.

    Raises:
        RefusedError: what `write` raises; CS038 where the file is another one in the end.
    """
    growth = _Growth()
    thread = threading.Thread(target=growth.run, args=(write,), name="convsurgeon writes")
    try:
        if follows(size) and _started(thread):
            growth.wait(1)  # from then on the file can be opened
            yield Following(path, size, growth.wait)
            growth.wait_for_end()
        else:
            write(progress)
            yield Following(path, size, whole)
    finally:
        growth.stop()
        _join(thread)
    if path.stat().st_size != size:
        raise changed(path, "has another size than it was given")


def _started(thread: threading.Thread) -> bool:
    try:
        with uninterrupted():  # else a thread could run that nobody knows of
            thread.start()
    except RuntimeError:  # there is no room for a thread
        return False
    return True


def _join(thread: threading.Thread) -> None:
    if thread.ident is None:
        return
    try:
        with uninterrupted():
            thread.join()
    except BaseException:  # it came before interrupts were held back
        thread.join()
        raise
