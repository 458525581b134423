"""What is run, and in which folder: a small checkpoint, a command, the place of its output."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tests.files import checkpoint, framed, index_of

SHAPES = {
    "embed.proj.weight": (8, 3, 4, 4),
    "embed.proj.bias": (8,),
    "head.weight": (40, 64),
    "head.bias": (40,),
}
_QUIET = ("--no-config", "--quiet")
SWAP = ("--geometry", "embed.proj=s4", "--verify", "bits", *_QUIET)
_IN_PLACE = ("swap", "model.safetensors", "--in-place", *SWAP)
TEMPORARY = ".convsurgeon-tmp"
JOURNAL = ".convsurgeon-journal"
SIDECAR = ".convsurgeon.json"
OLD = b"what stood there before" * 7

Row = tuple[str, int, bytes]
State = dict[str, Row]
"""Every name below a folder: its type, its mode, its content."""


def state(folder: Path) -> State:
    """Look at a folder, hidden names included."""
    rows: State = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        mode = stat.S_IMODE(status.st_mode)
        name = str(path.relative_to(folder))
        if path.is_symlink():
            rows[name] = ("link", 0, os.fsencode(path.readlink()))
        elif path.is_dir():
            rows[name] = ("folder", mode, b"")
        else:
            rows[name] = ("file", mode, path.read_bytes())
    return rows


def below(rows: State, name: str) -> State:
    """What belongs to one name: itself, and all below it."""
    names = {name, f"{name}{SIDECAR}"}
    return {k: v for k, v in rows.items() if k in names or (name and k.startswith(f"{name}/"))}


@dataclass(frozen=True)
class Scenario:
    """A command.

    Attributes:
        name: of the scenario.
        arguments: of the command line, with names relative to its folder.
        source: the file or folder that must not change; empty where it is rewritten in place.
        target: the file or folder that is old or new.
        prepare: makes what stands in the folder before.
        killed_at: a call, and which one of its name, at which a run before this one was killed,
            with its header half written.
        again: the code with which the command refuses what is done already.
        two_threads: whether a file is read while it is written, as only large ones are elsewhere.
    """

    name: str
    arguments: tuple[str, ...]
    source: str
    target: str
    prepare: Callable[[Path], None]
    killed_at: tuple[str, int] | None = None
    again: str = ""
    two_threads: bool = False

    @property
    def in_place(self) -> bool:
        """Whether the source is the target."""
        return not self.source

    @property
    def mend(self) -> tuple[str, ...]:
        """Return a command that changes nothing but what an interrupted run left."""
        return ("scan", self.target, "--no-config", "--quiet")

    def build(self, folder: Path) -> None:
        """Make the folder."""
        folder.mkdir()
        self.prepare(folder)


def _file(folder: Path) -> None:
    checkpoint(folder / "model.safetensors", SHAPES, {"format": "pt"})
    (folder / "model.safetensors").chmod(0o640)


def _over_file(folder: Path) -> None:
    _file(folder)
    (folder / "out.safetensors").write_bytes(OLD)
    (folder / "out.safetensors").chmod(0o604)


def _shards(folder: Path) -> None:
    source = folder / "model"
    source.mkdir()
    weight_map: dict[str, str] = {}
    for place, name in enumerate(("model-1-of-2.safetensors", "model-2-of-2.safetensors")):
        part = dict(list(SHAPES.items())[2 * place : 2 * place + 2])
        checkpoint(source / name, part, {"format": "pt"})
        weight_map |= dict.fromkeys(part, name)
    index_of(source, weight_map)
    (source / "config.json").write_text(json.dumps({"model_type": "unheard of"}))


def _over_folder(folder: Path) -> None:
    _shards(folder)
    (folder / "out").mkdir()
    (folder / "out" / "model.safetensors").write_bytes(OLD)
    (folder / "out" / "notes.txt").write_bytes(b"mine")


def _stale_file(folder: Path) -> None:
    """After a SIGKILL: a temporary, half written, whose process is gone."""
    _file(folder)
    (folder / f".out.safetensors.0a1b2c3d{TEMPORARY}").write_bytes(b"half")


def _stale_folder(folder: Path) -> None:
    """The same of a folder."""
    _over_folder(folder)
    stale = folder / f".out.0a1b2c3d{TEMPORARY}"
    stale.mkdir()
    (stale / "model-1-of-2.safetensors").write_bytes(b"half")


def _room(folder: Path) -> None:
    """With room for a recipe behind the header."""
    _file(folder)
    path = folder / "model.safetensors"
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    path.write_bytes(framed(data[8:end] + b" " * 4096, data[end:]))


def _both_shards(folder: Path) -> None:
    """A layer to rewrite in each of two shards."""
    source = folder / "model"
    source.mkdir()
    weight_map: dict[str, str] = {}
    for place, name in enumerate(("model-1-of-2.safetensors", "model-2-of-2.safetensors")):
        part: dict[str, tuple[int, ...]] = {f"{place}.weight": (8, 3, 2, 2), f"{place}.bias": (8,)}
        checkpoint(source / name, part, {"format": "pt"})
        weight_map |= dict.fromkeys(part, name)
    index_of(source, weight_map)


def _swapped_in_place(folder: Path) -> None:
    from convsurgeon import swap

    _file(folder)
    source = folder / "model.safetensors"
    swap(source, in_place=True, geometry=["embed.proj=s4"], verify="bits")


def _swapped(folder: Path) -> None:
    from convsurgeon import swap

    _file(folder)
    source = folder / "model.safetensors"
    target = folder / "swapped.safetensors"
    swap(source, target, geometry=["embed.proj=s4"], verify="bits")
    source.unlink()


def _over_swapped(folder: Path) -> None:
    _swapped(folder)
    (folder / "out.safetensors").write_bytes(OLD)


def _swapped_folder(folder: Path) -> None:
    from convsurgeon import swap

    _shards(folder)
    swap(folder / "model", folder / "swapped", geometry=["embed.proj=s4"], verify="bits")


_ALL = (
    Scenario(
        "file",
        ("swap", "model.safetensors", "-o", "out.safetensors", *SWAP),
        "model.safetensors",
        "out.safetensors",
        _file,
    ),
    Scenario(
        "file, permuted",
        ("swap", "model.safetensors", "-o", "out.safetensors", *SWAP, "--layout", "p1 p2 c"),
        "model.safetensors",
        "out.safetensors",
        _file,
    ),
    Scenario(
        "file, --force",
        ("swap", "model.safetensors", "-o", "out.safetensors", "--force", *SWAP),
        "model.safetensors",
        "out.safetensors",
        _over_file,
    ),
    Scenario("folder", ("swap", "model", "-o", "out", *SWAP), "model", "out", _shards),
    Scenario(
        "folder, --force",
        ("swap", "model", "-o", "out", "--force", *SWAP),
        "model",
        "out",
        _over_folder,
    ),
    Scenario(
        "restore",
        ("restore", "swapped.safetensors", "-o", "out.safetensors", "--quiet"),
        "swapped.safetensors",
        "out.safetensors",
        _swapped,
    ),
    Scenario(
        "restore, --force",
        ("restore", "swapped.safetensors", "-o", "out.safetensors", "--quiet", "--force"),
        "swapped.safetensors",
        "out.safetensors",
        _over_swapped,
    ),
    Scenario(
        "restore, folder",
        ("restore", "swapped", "-o", "out", "--quiet"),
        "swapped",
        "out",
        _swapped_folder,
    ),
    Scenario(
        "after a kill, file",
        ("swap", "model.safetensors", "-o", "out.safetensors", *SWAP),
        "model.safetensors",
        "out.safetensors",
        _stale_file,
    ),
    Scenario(
        "after a kill, folder",
        ("swap", "model", "-o", "out", "--force", *SWAP),
        "model",
        "out",
        _stale_folder,
    ),
    Scenario("in place", _IN_PLACE, "", "model.safetensors", _room),
    Scenario("in place, recipe beside", _IN_PLACE, "", "model.safetensors", _file),
    Scenario(
        "in place, shards",
        ("swap", "model", "--in-place", "--geometry", "*=s2", "--verify", "bits", *_QUIET),
        "",
        "model",
        _both_shards,
    ),
    Scenario(
        "in place, restore",
        ("restore", "model.safetensors", "--in-place", "--quiet"),
        "",
        "model.safetensors",
        _swapped_in_place,
        again="CS081",
    ),
    Scenario(
        "in place, after a kill",
        _IN_PLACE,
        "",
        "model.safetensors",
        _file,
        killed_at=("pwrite64", 2),
    ),
)
_READ_WHILE_WRITTEN = ("file", "file, permuted", "folder, --force", "restore")
_TWO = tuple(
    replace(one, name=f"{one.name}, two threads", two_threads=True)
    for one in _ALL
    if one.name in _READ_WHILE_WRITTEN
)
SCENARIOS = {scenario.name: scenario for scenario in (*_ALL, *_TWO)}
