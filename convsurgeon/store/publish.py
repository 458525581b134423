"""Outputs: nothing appears under its final name until it is complete, synced and verified.

The order is the one that survives a power cut: temporary name in the target's own folder, write,
sync, (verify,) rename, sync the folder. A rename without the first sync can leave a file of zeros
of the right size.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from functools import partial
from pathlib import Path

from convsurgeon.store.attributes import keep_attributes
from convsurgeon.store.behind import Following, written_behind
from convsurgeon.store.copying import Written, unheard, write_parts
from convsurgeon.store.draft import Draft, Outcome
from convsurgeon.store.exchange import exchange
from convsurgeon.store.files import (
    OLD,
    hard_link,
    is_empty_folder,
    remove,
    same_bytes,
    same_tree,
    sync,
    sync_folder,
    writing,
)
from convsurgeon.store.listing import folders_of
from convsurgeon.store.opening import opened
from convsurgeon.store.parts import Part
from convsurgeon.store.source import Source

_SYNCED_ALONE = 64 << 20
"""Bytes from which syncing a file takes so long that the file system's journal adds little."""
_SYNCED_TOGETHER = 32
"""Files that are open at most, waiting to be synced: some systems allow a process 256 in all."""


class FileDraft(Draft):
    """A file on its way to its name."""

    def _create(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return os.open(self.path, flags, 0o666)  # the umask makes it what every new file is

    def write(self, parts: Iterable[Part], written: Written = unheard) -> None:
        """Write all parts and sync.

        Args:
            parts: the file, from front to back.
            written: told how many bytes were written since the last call.

        Raises:
            OutputError: CS071.
            UnreadableError: CS037, CS038 where a file that a part lies in is at fault.
        """
        with writing(self.target):
            write_parts(self._fd, parts, self.target, written)
            os.fsync(self._fd)

    def following(
        self, parts: Iterable[Part], size: int, written: Written = unheard
    ) -> AbstractContextManager[Following]:
        """Write all parts and sync, and let the body read them meanwhile; see `written_behind`."""
        return written_behind(self.path, size, partial(self.write, parts), written)

    def publish(self) -> Outcome:
        """Give the file its name.

        Raises:
            OutputError: CS070 where another file has it, CS071.
            NotSyncedError: CS073: it has its name, but that may not survive a power cut.
        """
        with writing(self.target):
            if os.path.lexists(self.target):
                if self.target.is_file() and same_bytes(self.path, self.target):
                    self._hold_interrupts()
                    return Outcome.SAME
                if not self.force or self.target.is_dir():
                    self._refuse_existing()
                self.notes = keep_attributes(self._fd, self.target)
                os.fsync(self._fd)
                self.path.replace(self.target)
            elif not self._link():
                return Outcome.SAME
        sync_folder(self.target)
        return Outcome.WRITTEN

    def _link(self) -> bool:
        self._hold_interrupts()
        # Unlike a rename, a link fails where another run has just published under the name.
        try:
            os.link(self.path, self.target)
        except FileExistsError:
            if not same_bytes(self.path, self.target):
                self._refuse_existing()
            return False
        except OSError:  # a file system without hard links
            self.path.rename(self.target)
        return True


class FolderDraft(Draft):
    """A folder on its way to its name; it appears with all its files by one rename."""

    def __init__(self, target: Path, *, force: bool) -> None:
        super().__init__(target, force=force)
        self._unsynced: dict[int, str] = {}  # descriptor -> name of the file

    def _create(self) -> int:
        while True:
            self.path.mkdir()
            with suppress(FileNotFoundError):  # another run took it for stale
                return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def write(self, name: str, parts: Iterable[Part], written: Written = unheard) -> Path:
        """Write one file, return where it is until the folder is published.

        It is synced by then: a large one at once, small ones together. Each sync of a file is one
        of the file system's journal, unless the journal has just been synced for another.

        Args and errors are those of `FileDraft.write`.
        """
        path = self.path / name
        with writing(self.target / name):
            path.parent.mkdir(parents=True, exist_ok=True)
            fd = self._new(path)
            self._unsynced[fd] = name
            write_parts(fd, parts, self.target / name, written)
            large = os.fstat(fd).st_size >= _SYNCED_ALONE
        if large or len(self._unsynced) >= _SYNCED_TOGETHER:
            self._sync_files()
        return path

    def following(
        self, name: str, parts: Iterable[Part], size: int, written: Written = unheard
    ) -> AbstractContextManager[Following]:
        """Write one file and let the body read it meanwhile; see `written_behind`."""
        return written_behind(self.path / name, size, partial(self.write, name, parts), written)

    def _new(self, path: Path) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o666)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE) or not self._unsynced:
                raise
        self._sync_files()  # then they are closed
        return os.open(path, flags, 0o666)

    def _sync_files(self) -> None:
        while self._unsynced:
            fd, name = self._unsynced.popitem()
            with writing(self.target / name):
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)

    def link(self, name: str, source: Source) -> Path:
        """Let a name of the folder be one more name of a file, after a sync of the file.

        After the link its inode would count as changed, and each sync would be one of the journal.

        Raises:
            OutputError: CS094 where the file cannot have two names.
            UnreadableError: CS038 where it is not the file that was read.
        """
        path = self.path / name
        with writing(self.target / name):
            path.parent.mkdir(parents=True, exist_ok=True)
            with opened(source.path) as fd:
                os.fsync(fd)
        hard_link(source.path, path, self.target / name)
        with opened(path) as fd:
            source.stamp.check(fd, source.path)
        return path

    def publish(self) -> Outcome:
        """Give the folder its name; see `FileDraft.publish`."""
        self._sync_files()
        with writing(self.target):
            for folder in folders_of(self.path)[1:]:
                sync(folder)
            os.fsync(self._fd)
            if not self._rename():
                self._hold_interrupts()
                return Outcome.SAME
        sync_folder(self.target)
        return Outcome.WRITTEN

    def _rename(self) -> bool:
        if self._is_free():
            try:
                self.path.rename(self.target)
            except OSError:
                if self._is_free():
                    raise
            else:
                return True
        # Something is there, or another run has published under the name just now.
        if self.target.is_dir() and same_tree(self.path, self.target):
            return False
        if not self.force:
            self._refuse_existing()
        self._replace()
        return True

    def _is_free(self) -> bool:
        return not os.path.lexists(self.target) or is_empty_folder(self.target)

    def _replace(self) -> None:
        if self.target.is_dir() and not self.target.is_symlink():
            self.notes = keep_attributes(self._fd, self.target)
            os.fsync(self._fd)
        self._hold_interrupts()
        if exchange(self.path, self.target):
            return  # what stood there has the temporary's name now, and goes with it
        # Two renames: for an instant the name is free, but at every instant one whole folder is
        # there, and an error puts the old one back.
        try:
            self.target.rename(self._old)
            self.path.rename(self.target)
        except BaseException:
            if os.path.lexists(self._old) and not os.path.lexists(self.target):
                self._old.rename(self.target)
            raise

    @property
    def _old(self) -> Path:
        return self.path.with_name(f"{self.path.name}{OLD}")

    def _clean(self) -> None:
        while self._unsynced:
            with suppress(OSError):
                os.close(self._unsynced.popitem()[0])
        super()._clean()
        with suppress(OSError):
            if os.path.lexists(self.target):
                remove(self._old)
