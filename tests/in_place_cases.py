"""What the tests of swaps in place share: files, what they may be, and faults at every call."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import convsurgeon as cs
from convsurgeon.store import Journal, in_place, journal_of
from tests.cli_helpers import STATED, Tensor, f32, model_file, model_tensors, write
from tests.files import index_of

Content = dict[str, bytes]
# What reaches the disk or asks it. os.close is left out: it frees the descriptor even where it fails.
CHANGES = ("pwrite", "fsync", "link", "replace", "rename", "unlink", "fchmod", "fchown")
CALLS = (*CHANGES, "open", "pread", "fstat", "lstat")


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


def name_of(fd: int) -> str:
    """The name of an open file."""
    return Path(f"/proc/self/fd/{fd}").readlink().name


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
        self,
        act: Callable[[], None],
        at: int | None = None,
        *,
        lasting: bool = False,
        calls: Sequence[str] = (*CALLS, "flock"),
    ) -> None:
        self.act = act
        self.at = at
        self.lasting = lasting
        self.among = calls
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
            for name in self.among:
                place = fcntl if name == "flock" else os
                patch.setattr(place, name, self._wrapped(name, getattr(place, name)))
            yield


def io_error() -> None:
    """Fail as a disk does."""
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def killed() -> None:
    """Die as nothing can prevent."""
    os.kill(os.getpid(), signal.SIGKILL)


class Cut(BaseException):
    """What stops a run without giving it time to clean up."""


@contextmanager
def cut_at(monkeypatch: pytest.MonkeyPatch, call: str) -> Iterator[None]:
    """Have a run end as by SIGKILL when it calls a function of the transaction."""

    def stop(*_: Any, **__: Any) -> None:
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(in_place, "_take_back", lambda *_, **__: None)
        patch.setattr(in_place, call, stop)
        yield


def tear(path: Path, share: float = 0.5) -> None:
    """Write the beginning of the new header, as a run that is cut off does."""
    journal = Journal.parse(journal_of(path).read_bytes())
    new = journal.members[0].new.prefix
    with path.open("r+b") as file:
        file.write(new[: int(len(new) * share)])


@dataclass(frozen=True)
class Case:
    """Something done in place.

    Attributes:
        make: fills an empty folder.
        act: what is done.
        target: what a later command is given.
    """

    make: Callable[[Path], object]
    act: Callable[[Path], object]
    target: str = "model.safetensors"

    def settle(self, folder: Path) -> None:
        """Run a later command."""
        cs.scan(folder / self.target, geometry=STATED)

    def both(self, folder: Path) -> tuple[Content, Content]:
        """Return what the folder holds before and after; leave it as it was before."""
        self.make(folder)
        old = content(folder)
        self.act(folder)
        new = content(folder)
        put_back(folder, old)
        return old, new


def two_shards(folder: Path) -> None:
    """Two shards with a layer to rewrite each, and one without."""
    parts = {
        "a.safetensors": {"embed.proj.weight": f32((8, 3, 2, 2), 1)},
        "b.safetensors": {"head.weight": f32((5, 8), 4)},
        "c.safetensors": {"other.weight": f32((4, 2, 2, 2), 9), "other.bias": f32((4,), 8)},
    }
    for name, tensors in parts.items():
        write(folder / name, tensors, {"format": "pt"})
    weight_map = {key: name for name, tensors in parts.items() for key in tensors}
    index_of(folder, weight_map)


def swap_shards(folder: Path) -> cs.SwapReport:
    """Rewrite both."""
    stated = [*STATED, "other=s2"]
    path = folder / "model.safetensors.index.json"
    return cs.swap(path, in_place=True, geometry=stated, verify="bits")


def _swapped(folder: Path) -> None:
    swap_in_place(model_file(folder / "model.safetensors"))


def _twice(folder: Path) -> None:
    tensors = {**model_tensors(), "other.weight": f32((4, 2, 2, 2), 9)}
    swap_in_place(write(folder / "model.safetensors", tensors, {"format": "pt"}))


CASES = {
    "with a sidecar": Case(
        lambda folder: model_file(folder / "model.safetensors"),
        lambda folder: swap_in_place(folder / "model.safetensors"),
    ),
    "within the header": Case(
        lambda folder: padded(folder / "model.safetensors", 4096),
        lambda folder: swap_in_place(folder / "model.safetensors"),
    ),
    "another sidecar": Case(
        _twice,
        lambda folder: cs.swap(
            folder / "model.safetensors", in_place=True, geometry=["other=s2"], verify="bits"
        ),
    ),
    "restored": Case(
        _swapped, lambda folder: cs.restore(folder / "model.safetensors", in_place=True)
    ),
    "shards": Case(two_shards, swap_shards, "model.safetensors.index.json"),
}
