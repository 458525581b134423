"""What the drafts of files and folders have in common: the temporary, its lock, and its end."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from convsurgeon.errors import OutputError
from convsurgeon.store.files import remove, remove_stale, writing
from convsurgeon.store.interrupts import Hold, uninterrupted
from convsurgeon.store.listing import TEMPORARY


class Outcome(StrEnum):
    """What publishing did."""

    WRITTEN = "written"
    SAME = "same"  # the very bytes were there already


class Draft:
    """A locked temporary beside the target.

    Use it as a context: whatever is not published when the context ends is removed.

    Args:
        target: the final name.
        force: whether what stands there is replaced.

    Attributes:
        notes: what the user has to know about what was replaced.
    """

    def __init__(self, target: Path, *, force: bool) -> None:
        self.target = target
        self.force = force
        self.path = target.with_name(f".{target.name}.{os.urandom(4).hex()}{TEMPORARY}")
        self.notes: tuple[str, ...] = ()
        self._fd = -1
        self._hold = Hold()

    def __enter__(self) -> Self:
        try:
            with writing(self.target):
                remove_stale(self.target)
                while self._fd < 0:
                    self._fd = self._locked()
        except BaseException:  # an interrupt, say, just after the temporary was made
            self._clean()
            raise
        return self

    def _locked(self) -> int:
        fd = self._create()
        try:
            # The lock tells the next run that this temporary is alive; SIGKILL releases it.
            fcntl.flock(fd, fcntl.LOCK_EX)
        except BaseException:
            remove(self.path)
            os.close(fd)
            raise
        if os.path.lexists(self.path):
            return fd
        os.close(fd)  # another run took it for stale between the two calls
        return -1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        try:
            with uninterrupted():
                self._clean()
        except BaseException:  # it came before interrupts were held back, or while they were
            self._clean()
            raise
        finally:
            self._hold.end()

    def _hold_interrupts(self) -> None:
        """Let Ctrl-C and SIGTERM wait from now on until what is left over is removed.

        For what has just changed its name: Python hears a signal also between the end of a block
        and the clean-up behind it, where nothing would catch it.
        """
        self._hold.begin()

    def _clean(self) -> None:
        with suppress(OSError):  # what cannot be removed now, the next run takes for stale
            remove(self.path)
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with suppress(OSError):  # every byte that matters is synced
                os.close(fd)

    def _create(self) -> int:
        raise NotImplementedError

    def _refuse_existing(self) -> None:
        message = "the output exists and holds something else"
        hint = "choose another name" if self.force else "choose another name, or add --force"
        raise OutputError("CS070", message, where=self.target, hint=hint)
