"""What the tests of swaps in place share: files, what they may be, and faults at every call."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import convsurgeon as cs
from tests.cli_helpers import STATED, Tensor, model_tensors, write

Content = dict[str, bytes]
# What reaches the disk or asks it. os.close is left out: it frees the descriptor even where it fails.
CALLS = (
    *("open", "read", "write", "pread", "pwrite", "fsync", "fstat", "lstat", "link", "replace"),
    *("rename", "unlink", "fchmod", "fchown"),
)


def swap_in_place(path: Path, **more: Any) -> cs.SwapReport:
    """Rewrite the one layer that is decided."""
    return cs.swap(path, in_place=True, geometry=STATED, verify="bits", **more)


def padded(path: Path, room: int, tensors: Mapping[str, Tensor] | None = None) -> Path:
    """Write the model with room for a recipe behind its header."""
    write(path, tensors or model_tensors(), {"format": "pt"})
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    entries = json.loads(data[8 : 8 + length])  # in the one form that needs no record of its own
    text = json.dumps(entries, separators=(",", ":")).encode() + b" " * room
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    return path


def header_end(path: Path) -> int:
    """Where the data begins."""
    return 8 + int.from_bytes(path.read_bytes()[:8], "little")


def content(folder: Path) -> Content:
    """Every file of a folder, temporaries included, and its bytes."""
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def put_back(folder: Path, files: Content) -> None:
    """Make a folder hold these files and no others; those that stay keep their inodes."""
    for path in folder.iterdir():
        if path.name not in files:
            path.unlink()
    for name, data in files.items():
        if not (folder / name).exists() or (folder / name).read_bytes() != data:
            (folder / name).write_bytes(data)


class Faults:
    """Counts the calls to the system; from one of them on, or at it alone, does something."""

    def __init__(
        self, act: Callable[[], None], at: int | None = None, *, lasting: bool = False
    ) -> None:
        self.act = act
        self.at = at
        self.lasting = lasting
        self.calls: list[str] = []

    def _is_hit(self) -> bool:
        number = len(self.calls) - 1
        return self.at is not None and (number >= self.at if self.lasting else number == self.at)

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            if self._is_hit():
                self.act()
            return real(*args, **kwargs)

        return call

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Have the calls of this process pass through here."""
        with pytest.MonkeyPatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, self._wrapped(name, getattr(os, name)))
            patch.setattr(fcntl, "flock", self._wrapped("flock", fcntl.flock))
            yield


def io_error() -> None:
    """Fail as a disk does."""
    raise OSError(errno.EIO, os.strerror(errno.EIO))
