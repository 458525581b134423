"""Crafted folders: indexes that lie, shards that are no files, and names that lead elsewhere.

`python -m tests.crafted_folders FOLDER` makes them all. Each entry of `FOLDERS` is a function that
fills a folder, the code of the refusal (None where the folder is accepted), and a part of the line.
Beside every folder lies `outside`, with files that nothing may ever open.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.files import checkpoint, framed

ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
THREE = "model-00003-of-00003.safetensors"
INDEX = "model.safetensors.index.json"
GOOD = {"a": ONE, "b": ONE, "c": TWO}
OUTSIDE = "../outside/secret.safetensors"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 123\n"
Make = Callable[[Path], None]


def shards(folder: Path) -> None:
    """The two shards of `GOOD`."""
    checkpoint(folder / ONE, {"a": (2,), "b": (1, 3)})
    checkpoint(folder / TWO, {"c": (4,)})


def mapped(weight_map: Any, **more: Any) -> Make:
    """The good shards under an index of this content."""
    return index(json.dumps({"metadata": {"total_size": 36}, "weight_map": weight_map, **more}))


def index(content: str | bytes) -> Make:
    """The good shards under an index of these bytes."""

    def make(folder: Path) -> None:
        shards(folder)
        (folder / INDEX).write_bytes(content if isinstance(content, bytes) else content.encode())

    return make


def named(name: str) -> Make:
    """A good index with a third tensor, in a shard of this name."""
    return mapped({**GOOD, "z": name})


def second(change: Callable[[Path], object]) -> Make:
    """A good index, and something else in the place of its second shard."""

    def make(folder: Path) -> None:
        mapped(GOOD)(folder)
        (folder / TWO).unlink()
        change(folder / TWO)

    return make


def link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def absolute_link(path: Path) -> None:
    path.symlink_to((path.parent / OUTSIDE).resolve())


def long_way_round(path: Path) -> None:
    """A link to a link to a link that leads out."""
    (path.parent / "x").symlink_to(OUTSIDE)
    (path.parent / "y").symlink_to("x")
    path.symlink_to("y")


def circle(path: Path) -> None:
    other = path.parent / "other.safetensors"
    path.symlink_to(other.name)
    other.symlink_to(path.name)


def holding(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def listening(path: Path) -> None:
    before = Path.cwd()
    os.chdir(path.parent)  # the name of a socket has at most 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(before)


def twins(folder: Path) -> None:
    checkpoint(folder / "A.safetensors", {"a": (2,)})
    checkpoint(folder / "a.safetensors", {"b": (2,)})
    write_index(folder, {"a": "A.safetensors", "b": "a.safetensors"})


def write_index(folder: Path, weight_map: Mapping[str, Any]) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def in_two_shards(folder: Path) -> None:
    mapped(GOOD)(folder)
    checkpoint(folder / TWO, {"a": (2,), "c": (4,)})


def hard_linked(folder: Path) -> None:
    mapped(GOOD)(folder)
    (folder / TWO).unlink()
    (folder / TWO).hardlink_to(folder / ONE)


def huge(folder: Path) -> None:
    shards(folder)
    write_index(folder, GOOD | {f"layers.{n}.weight": ONE for n in range(100_000)})


def no_file(make: Callable[[Path], object], name: str = INDEX) -> Make:
    """The good shards, and an index that is no plain file."""

    def filled(folder: Path) -> None:
        shards(folder)
        make(folder / name)

    return filled


def leftover(folder: Path) -> None:
    """A shard of another save, which the index does not name."""
    mapped(GOOD)(folder)
    checkpoint(folder / THREE, {"a": (9,)})


FOLDERS: dict[str, tuple[Make, str | None, str]] = {
    "good": (mapped(GOOD), None, ""),
    "wrong total_size": (mapped(GOOD, metadata={"total_size": -1}), None, ""),
    "metadata is null": (mapped(GOOD, metadata=None), None, ""),
    "a shard that no index names": (leftover, None, ""),
    "name: parent": (named(OUTSIDE), "CS045", "no plain file name"),
    "name: parent in between": (named(f"x/../{ONE}"), "CS045", "no plain file name"),
    "name: absolute": (named("/etc/passwd"), "CS045", "no plain file name"),
    "name: home": (named("~/x.safetensors"), "CS045", "no plain file name"),
    "name: URL": (named("file:///etc/passwd"), "CS045", "no plain file name"),
    "name: in a folder": (named("sub/x.safetensors"), "CS045", "no plain file name"),
    "name: this folder": (named(f"./{ONE}"), "CS045", "no plain file name"),
    "name: ends in a slash": (named(f"{ONE}/"), "CS045", "no plain file name"),
    "name: backslashes": (named("..\\outside\\secret.safetensors"), "CS045", "no plain file name"),
    "name: drive": (named("C:\\x.safetensors"), "CS045", "no plain file name"),
    "name: NUL": (named(f"{ONE}\0.txt"), "CS045", "no plain file name"),
    "name: newline": (named("a\nb"), "CS045", "no plain file name"),
    "name: terminal escape": (named("\x1b[2Ja"), "CS045", "no plain file name"),
    "name: DEL": (named("a\x7f"), "CS045", "no plain file name"),
    "name: half a surrogate pair": (named("a\ud800"), "CS045", "no plain file name"),
    "name: empty": (named(""), "CS045", "no plain file name"),
    "name: dot": (named("."), "CS045", "no plain file name"),
    "name: two dots": (named(".."), "CS045", "no plain file name"),
    "name: bidi": (named("\u202ex"), "CS046", "is missing"),
    "name: markup": (named("[bold]x"), "CS046", "is missing"),
    "name: pattern": (named("model-*"), "CS046", "is missing"),
    "name: 300 characters": (named("x" * 300), "CS045", "no plain file name"),
    "name: a million characters": (named("x" * 1_000_000), "CS045", "no plain file name"),
    "name: the index itself": (named(INDEX), "CS035", "JSON text"),
    "name: number": (named(1), "CS045", "no plain file name"),  # type: ignore[arg-type]
    "name: null": (mapped({"a": None}), "CS045", "no plain file name"),
    "name: list": (mapped({"a": [ONE]}), "CS045", "no plain file name"),
    "name: object": (mapped({"a": {"file": ONE}}), "CS045", "no plain file name"),
    "names that differ in case": (twins, "CS045", "differ in case alone"),
    "shard: missing": (named("absent.safetensors"), "CS046", "is missing"),
    "shard: empty": (second(holding(b"")), "CS031", "empty"),
    "shard: cut off": (second(holding(framed("{}")[:-1])), "CS036", "truncated"),
    "shard: Git LFS pointer": (second(holding(LFS)), "CS033", "Git LFS pointer"),
    "shard: web page": (second(holding(b"<html>404</html>")), "CS034", "web page"),
    "shard: pickle": (second(holding(b"\x80\x02}q\x00." + bytes(40))), "CS035", "pickle"),
    "shard: folder": (second(Path.mkdir), "CS037", "this is a folder"),
    "shard: FIFO": (second(os.mkfifo), "CS037", "no regular file"),
    "shard: socket": (second(listening), "CS037", "cannot be read"),
    "shard: link out": (second(link(OUTSIDE)), "CS045", "link out of the folder"),
    "shard: absolute link out": (second(absolute_link), "CS045", "link out of the folder"),
    "shard: link to a link to a link": (second(long_way_round), "CS045", "link out of the folder"),
    "shard: link to a device": (second(link("/dev/zero")), "CS045", "link out of the folder"),
    "shard: link to stdin": (second(link("/dev/stdin")), "CS045", "link out of the folder"),
    "shard: link to memory": (second(link("/proc/self/mem")), "CS045", "link out of the folder"),
    "shard: link to itself": (second(link(TWO)), "CS037", "cannot be read"),
    "shard: links in a circle": (second(circle), "CS037", "cannot be read"),
    "shard: link to nothing": (second(link("absent")), "CS046", "is missing"),
    "tensor: in another shard": (mapped({**GOOD, "b": TWO}), "CS046", "'b' stands in model-00001"),
    "tensor: in no shard": (mapped({**GOOD, "x": TWO}), "CS046", "'x' stands in no shard"),
    "tensor: not in the index": (mapped({"a": ONE, "c": TWO}), "CS046", "the index says nothing"),
    "tensor: in two shards": (in_two_shards, "CS046", "stands in two shards"),
    "tensor: through a hard link": (hard_linked, "CS046", "stands in two shards"),
    "tensor: nasty name": (mapped({**GOOD, "\x1b[2J[/x]\u202e": TWO}), "CS046", "stands in no shard"),
    "index: 100,000 entries": (huge, "CS046", "stands in no shard"),
    "index: empty": (index(""), "CS031", "empty"),
    "index: text": (index("weights"), "CS045", "no JSON"),
    "index: Git LFS pointer": (index(LFS), "CS033", "Git LFS pointer"),
    "index: cut off": (index('{"weight_map":{"a":"' + ONE), "CS045", "no JSON"),
    "index: list": (index("[]"), "CS045", "no JSON object"),
    "index: no weight_map": (index('{"metadata":{}}'), "CS045", "no weight_map"),
    "index: empty weight_map": (mapped({}), "CS045", "no weight_map"),
    "index: weight_map is a list": (mapped(["a"]), "CS045", "no weight_map"),
    "index: a key twice": (index(f'{{"weight_map":{{"a":"{ONE}","\\u0061":"{TWO}"}}}}'), "CS045", "twice"),
    "index: two weight_maps": (index('{"weight_map":{"a":"x"},"weight_map":{}}'), "CS045", "twice"),
    "index: nested lists": (index('{"weight_map":' + "[" * 100_000), "CS045", "nested"),
    "index: nested objects": (index('{"weight_map":' * 200_000), "CS045", "nested"),
    "index: lists": (index('{"a":[' + "[]," * 1_000_000 + "[]]}"), "CS045", "lists and objects"),
    "index: long number": (index('{"total_size":' + "9" * 1_000_000 + "}"), "CS045", "a number"),
    "index: BOM": (index("\ufeff{}"), "CS045", "no JSON"),
    "index: UTF-16": (index(json.dumps({"weight_map": GOOD}).encode("utf-16")), "CS045", "UTF-8"),
    "index: not UTF-8": (index(b'{"weight_map":{"\xff":"x"}}'), "CS045", "not UTF-8"),
    "index: a folder": (no_file(Path.mkdir), "CS032", "holds no checkpoint"),
    "index: FIFO": (no_file(os.mkfifo), "CS037", "no regular file"),
    "index: socket": (no_file(listening), "CS037", "cannot be read"),
    "index: link to itself": (no_file(link(INDEX)), "CS037", "cannot be read"),
    "index: link to a device": (no_file(link("/dev/zero")), "CS037", "no regular file"),
    "config: FIFO": (no_file(os.mkfifo, "config.json"), None, ""),
    "nothing": (lambda folder: None, "CS032", "holds no checkpoint"),
}  # fmt: skip


def made(parent: Path, name: str) -> Path:
    """Make one of the folders inside `parent`, and what lies outside of it.

    Returns:
        What a command is given: the index, whatever it is, or the folder where there is none.
    """
    outside, folder = parent / "outside", parent / "folder"
    outside.mkdir(parents=True)
    folder.mkdir()
    checkpoint(outside / "secret.safetensors", {"c": (4,), "z": (1,)})
    FOLDERS[name][0](folder)
    return folder / INDEX if os.path.lexists(folder / INDEX) else folder


if __name__ == "__main__":
    for number, each in enumerate(FOLDERS):
        made(Path(sys.argv[1]) / f"{number:02}", each)
