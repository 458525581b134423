"""Power cuts on paper: what a disk may hold after any call of a recorded run.

A trace with all the bytes that were written is replayed on a model of a file system that keeps no
promise but those of POSIX: content is safe after `fsync` of the file, a name after `fsync` of its
folder, and a rename or a link is one step. All else may have reached the disk or not, in any order;
a write may be torn at every sector, or leave zeros where it made the file longer.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from tests.faults.strace import whole_calls

_SECTOR = 512
_CALL = re.compile(r"(?:\d+ +)?(\w+)\((.*)\) += (-?\d+|\?)")
_HEX = re.compile(r"(?:\\x[0-9a-f]{2})+")
_STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_DESCRIPTOR = re.compile(r"(?:\d+|AT_FDCWD)<([^>]*)>")
_NAMES = {
    "openat": "create",
    "mkdir": "mkdir",
    "link": "link",
    "unlink": "unlink",
    "unlinkat": "unlink",
    "rmdir": "unlink",
    "rename": "rename",
    "renameat2": "rename",
}
_KEPT = frozenset({"pwrite64", "copy_file_range", "ftruncate", "fsync", "fdatasync", *_NAMES})
OPTIONS = ("-y", "-xx", "-s", "1000000")
"""Of strace, for a trace that can be replayed."""


@dataclass(frozen=True)
class Step:
    """One call that changes files or makes a change safe.

    Attributes:
        name: of the call.
        paths: what it is about.
        data: what is written.
        place: where.
        exchanges: whether two names change places.
    """

    name: str
    paths: tuple[str, ...]
    data: bytes = b""
    place: int = 0
    exchanges: bool = False


def steps_of(trace: Sequence[str], folder: Path) -> Iterator[Step]:
    """Yield the steps of a trace, with paths relative to the folder of the run."""
    for line in whole_calls(trace):
        found = _CALL.match(line)
        if found and found[1] in _KEPT and not found[3].startswith(("-", "?")):
            yield from _step(found[1], found[2], line, folder)


def _step(name: str, arguments: str, line: str, folder: Path) -> Iterator[Step]:
    at = [_relative(_text(path), folder) for path in _DESCRIPTOR.findall(line)]
    strings = [bytes.fromhex(text.replace("\\x", "")) for text in _STRING.findall(arguments)]
    numbers = [int(n) for n in re.findall(r"(?<=[ \[])\d+(?=[\],]|$)", arguments)]
    if name == "pwrite64" and at[0]:
        yield Step(name, (at[0],), strings[0], numbers[-1])
    elif name == "copy_file_range":
        count = int(line.rpartition("= ")[2])
        data = (folder / at[0]).read_bytes()[numbers[0] :][:count]
        yield Step(name, (at[1],), data, numbers[1])
    elif name == "ftruncate":
        yield Step(name, (at[0],), place=numbers[-1])
    elif name in {"fsync", "fdatasync"}:
        yield Step("fsync", (at[0],))
    elif name in _NAMES and (name != "openat" or "O_CREAT" in arguments):
        names = tuple(_relative(os.fsdecode(text), folder) for text in strings)
        if name == "unlinkat":
            names = (str(PurePath(at[0], names[0])),)
        yield Step(_NAMES[name], names, exchanges="RENAME_EXCHANGE" in arguments)


def _text(text: str) -> str:
    return _HEX.sub(lambda found: bytes.fromhex(found[0].replace("\\x", "")).decode(), text)


def _relative(path: str, folder: Path) -> str:
    path = path.removesuffix("(deleted)")
    return str(PurePath(path).relative_to(folder)) if path.startswith("/") else path


Entry = tuple[int, str]
"""A name in a folder."""


@dataclass
class Node:
    """A file or a folder: what is safe of it, and what is under way."""

    folder: bool = False
    safe: bytes = b""
    writes: list[Step] = field(default_factory=list)


@dataclass
class Disk:
    """A file system: entries that are safe, and changes of entries that are under way."""

    nodes: list[Node]
    entries: dict[Entry, int]
    safe: dict[Entry, int]
    changes: list[dict[Entry, int | None]] = field(default_factory=list)

    @classmethod
    def holding(cls, folder: Path) -> Disk:
        """Return a disk on which a folder and all below it are safe."""
        nodes, entries = [Node(folder=True)], {}
        places = {folder: 0}
        for path in sorted(folder.rglob("*")):
            places[path] = len(nodes)
            entries[places[path.parent], path.name] = len(nodes)
            content = b"" if path.is_dir() else path.read_bytes()
            nodes.append(Node(path.is_dir(), content))
        return cls(nodes, dict(entries), dict(entries))

    def _entry(self, path: str) -> Entry:
        *folders, name = PurePath(path).parts
        place = 0
        for folder in folders:
            place = self.entries[place, folder]
        return place, name

    def _node(self, path: str) -> int:
        return 0 if path == "." else self.entries[self._entry(path)]

    def _change(self, change: dict[Entry, int | None]) -> None:
        self.changes.append(change)
        _apply(self.entries, change)

    def do(self, step: Step) -> None:
        """Carry out one step."""
        if step.name in {"create", "mkdir"}:
            entry = self._entry(step.paths[0])
            if entry not in self.entries:
                self.nodes.append(Node(step.name == "mkdir"))
                self._change({entry: len(self.nodes) - 1})
        elif step.name == "unlink":
            self._change({self._entry(step.paths[0]): None})
        elif step.name == "link":
            self._change({self._entry(step.paths[1]): self._node(step.paths[0])})
        elif step.name == "rename":
            old, new = (self._entry(path) for path in step.paths[:2])
            other = self.entries.get(new) if step.exchanges else None
            self._change({old: other, new: self.entries[old]})
        elif step.name == "fsync":
            self._sync(self._node(step.paths[0]))
        else:
            self.nodes[self._node(step.paths[0])].writes.append(step)

    def _sync(self, place: int) -> None:
        node = self.nodes[place]
        node.safe, node.writes = _written(node.safe, node.writes), []
        for change in [c for c in self.changes if any(entry[0] == place for entry in c)]:
            _apply(self.safe, change)
            self.changes.remove(change)

    def after_a_cut(self, chance: random.Random | None, *, names: bool, content: str) -> Tree:
        """Return what the disk may hold.

        Args:
            chance: decides about each change by itself; None for what the others say.
            names: whether changes of names have reached it.
            content: `all` of what was written, `none` of it, or `zeros` in its place.
        """
        entries = dict(self.safe)
        for change in self.changes:
            if chance.random() < 0.5 if chance else names:
                _apply(entries, change)
        tree: Tree = {}
        todo = [(0, PurePath())]
        while todo:
            place, path = todo.pop()
            for (folder, name), inner in entries.items():
                if folder == place:
                    node = self.nodes[inner]
                    tree[str(path / name)] = None if node.folder else _found(node, chance, content)
                    todo += [(inner, path / name)] if node.folder else []
        return tree


Tree = dict[str, bytes | None]
"""What a folder holds: the bytes of files, None for folders."""


def _apply(entries: dict[Entry, int], change: dict[Entry, int | None]) -> None:
    for entry, node in change.items():
        if node is None:
            entries.pop(entry, None)
        else:
            entries[entry] = node


def _written(content: bytes, writes: Sequence[Step]) -> bytes:
    found = bytearray(content)
    for step in writes:
        if step.name == "ftruncate":
            del found[step.place :]
            found.extend(bytes(step.place - len(found)))
            continue
        end = step.place + len(step.data)
        found.extend(bytes(max(0, end - len(found))))
        found[step.place : end] = step.data
    return bytes(found)


def _found(node: Node, chance: random.Random | None, content: str) -> bytes:
    if chance is None:
        if content == "zeros":
            size = len(_written(node.safe, node.writes))
            return node.safe + bytes(max(0, size - len(node.safe)))
        return _written(node.safe, node.writes if content == "all" else ())
    reached: list[Step] = []
    for step in node.writes:
        kept = chance.choice(("all", "none", "zeros", "torn"))
        if kept == "all" or (kept == "torn" and not step.data):
            reached.append(step)
        elif kept == "zeros":
            size = max(len(_written(node.safe, reached)), step.place + len(step.data))
            reached.append(Step("ftruncate", step.paths, place=size))
        elif kept == "torn":
            sectors = range(0, len(step.data), _SECTOR)
            for begin in (b for b in sectors if chance.random() < 0.5):
                part = step.data[begin : begin + _SECTOR]
                reached.append(Step(step.name, step.paths, part, step.place + begin))
    return _written(node.safe, reached)


def states(disk: Disk, steps: Sequence[Step], each: int, seed: int) -> Iterator[tuple[int, Tree]]:
    """Yield what a disk may hold after a cut behind each step.

    Args:
        disk: as it is before the run.
        steps: of the run.
        each: how many states are drawn behind each step, besides the four plain ones.
        seed: of the draw.
    """
    chance, disk = random.Random(seed), deepcopy(disk)
    seen: set[int] = set()
    for number, step in enumerate(steps, 1):
        disk.do(step)
        found = [
            disk.after_a_cut(None, names=names, content=content)
            for names, content in ((False, "none"), (True, "none"), (True, "zeros"), (True, "all"))
        ]
        found += [disk.after_a_cut(chance, names=True, content="all") for _ in range(each)]
        for tree in found:
            known = hash((number == len(steps), *sorted(tree.items(), key=lambda item: item[0])))
            if known not in seen:
                seen.add(known)
                yield number, tree
