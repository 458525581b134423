"""What a new file keeps of the one whose place it takes: owner, mode, attributes, access list."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

_ACCESS_LIST = "system.posix_acl_access"
_OWN = "user."
_PRIVILEGES = stat.S_ISUID | stat.S_ISGID


def keep_attributes(fd: int, old: Path) -> tuple[str, ...]:
    """Give an open file what the file that it will replace has.

    Labels of security modules and what only the system may set are left to the system.

    Args:
        fd: of the new file.
        old: the other one; a symbolic link stands for what it leads to.

    Returns:
        What was lost, each as a sentence for the user.
    """
    try:
        was = old.stat()
    except FileNotFoundError:
        if old.is_symlink():  # it leads to nothing
            return ()
        raise
    lost = []
    mode = stat.S_IMODE(was.st_mode)
    if not _give(fd, was):
        lost.append(
            f"the replaced file belonged to {was.st_uid}:{was.st_gid}, the new one does not"
        )
        mode &= ~_PRIVILEGES  # they would be those of another user
    os.fchmod(fd, mode)
    lost += [f"the replaced file's {name} could not be kept" for name in _copy_attributes(fd, old)]
    if stat.S_ISREG(was.st_mode) and was.st_nlink > 1:
        lost.append("the replaced file has further names (hard links), which keep the old bytes")
    return tuple(lost)


def _give(fd: int, was: os.stat_result) -> bool:
    new = os.fstat(fd)
    if (new.st_uid, new.st_gid) == (was.st_uid, was.st_gid):
        return True
    try:
        os.fchown(fd, was.st_uid, was.st_gid)
    except PermissionError:  # only root may give files away, but a group of one's own may be kept
        with suppress(PermissionError):
            os.fchown(fd, -1, was.st_gid)
        return False
    return True


def _copy_attributes(fd: int, old: Path) -> list[str]:
    """Copy what users set; return the names of what could not be copied."""
    if not hasattr(os, "listxattr"):
        return []
    lost = []
    names = _attributes(old)
    for name in names:
        try:
            os.setxattr(fd, name, os.getxattr(old, name))
        except OSError:
            lost.append(name)
    if _ACCESS_LIST not in names and _ACCESS_LIST in _attributes(fd):
        os.removexattr(fd, _ACCESS_LIST)  # the folder's default: the old file did without
    return lost


def _attributes(file: int | Path) -> list[str]:
    try:
        names = os.listxattr(file)
    except OSError:  # a file system without them
        return []
    return [name for name in names if name.startswith(_OWN) or name == _ACCESS_LIST]
