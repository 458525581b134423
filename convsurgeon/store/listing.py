"""Folders are listed whole, or it is an error: what cannot be seen would be left out in silence.

The methods of `Path` take errors for an answer: `is_dir` and `is_file` for no, and `rglob` passes
over a folder that it may not open.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from convsurgeon.store.opening import unreadable

TEMPORARY = ".convsurgeon-tmp"
"""How the name of every temporary file and folder ends; it begins with a dot."""


def is_folder(path: Path) -> bool:
    """Tell whether an existing path is a folder, or leads to one.

    Raises:
        UnreadableError: CS030 where it does not exist, CS037 where the system does not say.
    """
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except OSError as error:
        raise unreadable(path, error) from None


def below(folder: Path) -> Iterator[Path]:
    """Yield everything below a folder, links to folders as links.

    Temporaries are left out: one is half a file that another run writes, or that a run left.

    Raises:
        OSError: where a part of it cannot be listed.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            path = folder / entry.name
            if _is_temporary(path):
                continue
            yield path
            if entry.is_dir(follow_symlinks=False):
                yield from below(path)


def files_of(folder: Path, *, recursive: bool) -> list[Path]:
    """Return the regular files of a folder, with links followed, in the order of their names.

    Raises:
        UnreadableError: CS030, CS037 where a part of it cannot be listed.
    """
    try:
        found = list(below(folder) if recursive else folder.iterdir())
        return [path for path in sorted(found) if not _is_temporary(path) and _is_file(path)]
    except OSError as error:
        raise unreadable(Path(os.fsdecode(error.filename or folder)), error) from None


def folders_of(folder: Path) -> list[Path]:
    """Return a folder and all folders below it, in the order of their names.

    Raises:
        UnreadableError: CS030, CS037 where a part of it cannot be listed.
    """
    try:
        return [folder, *sorted(p for p in below(folder) if stat.S_ISDIR(p.lstat().st_mode))]
    except OSError as error:
        raise unreadable(Path(os.fsdecode(error.filename or folder)), error) from None


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(".") and path.name.endswith(TEMPORARY)


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        if path.is_symlink():  # it leads to nothing
            return False
        raise
