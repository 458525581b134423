"""From the words of a command line to the checkpoints that they mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from convsurgeon.errors import UnreadableError
from convsurgeon.store import ReadOptions, checkpoint_paths, expand, read_checkpoint
from tests.files import checkpoint, index_of

INDEX = "model.safetensors.index.json"


def touched(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def found(folder: Path, *, recursive: bool = False) -> list[str]:
    paths = checkpoint_paths(folder, recursive=recursive)
    return [str(path.relative_to(folder)) for path in paths]


PATTERNS: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "a name": (("b.pt",), ["b.pt"]),
    "all": (("*",), ["[x].pt", "a.pt", "b.pt", "sub"]),
    "in their order, each once": (("b.pt", "*.pt", "b.pt"), ["b.pt", "[x].pt", "a.pt"]),
    "one letter": (("?.pt",), ["a.pt", "b.pt"]),
    "a class": (("[b].pt",), ["b.pt"]),
    "a name that looks like a pattern": (("[x].pt",), ["[x].pt"]),
    "below": (("*/c.pt",), ["sub/c.pt"]),
    "a folder": (("sub",), ["sub"]),
    "hidden, by name": ((".hidden.pt",), [".hidden.pt"]),
}


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize(("patterns", "names"), PATTERNS.values(), ids=PATTERNS.keys())
def test_expand(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    absolute: bool,
    patterns: tuple[str, ...],
    names: list[str],
) -> None:
    touched(tmp_path, "a.pt", "b.pt", "[x].pt", "sub/c.pt", ".hidden.pt")
    monkeypatch.chdir(tmp_path)
    prefix = f"{tmp_path}/" if absolute else ""
    assert expand(tuple(prefix + p for p in patterns)) == tuple(Path(prefix + n) for n in names)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("absent.pt", "no such file"),
        ("absent-*.pt", "pattern matches nothing"),
        ("x" * 300, "no such file"),
        ("a\0b", "no such file"),
        ("a/" * 3000, "no such file"),
        ("", "no such file"),
    ],
)
def test_expand_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, words: str
) -> None:
    touched(tmp_path, "a.pt")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnreadableError) as caught:
        expand(("a.pt", pattern))
    assert (caught.value.code, caught.value.where) == ("CS030", pattern)
    assert words in caught.value.message
    assert caught.value.hint


SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")

FOLDERS: dict[str, tuple[tuple[str, ...], list[str]]] = {
    "one file": (("model.safetensors", "config.json", "README.md"), ["model.safetensors"]),
    "several": (("b.safetensors", "a.safetensors"), ["a.safetensors", "b.safetensors"]),
    "an index and its shards": ((INDEX, *SHARDS), [INDEX]),
    "and a single one": ((INDEX, *SHARDS, "vae.safetensors"), [INDEX, "vae.safetensors"]),
    "two indexes": (
        (INDEX, "ema.safetensors.index.json", *SHARDS, "ema-00001-of-00001.safetensors"),
        ["ema.safetensors.index.json", INDEX],
    ),
    "shards of another index": ((INDEX, "x-00001-of-00001.safetensors"), [INDEX, "x-00001-of-00001.safetensors"]),
    "shards without an index": (SHARDS, list(SHARDS)),
    "safetensors before pickles": (("pytorch_model.bin", "model.safetensors"), ["model.safetensors"]),
    "pickles": (("b.ckpt", "a.pt", "c.pth"), ["a.pt", "b.ckpt", "c.pth"]),
    "the usual pickle before others": (("pytorch_model.bin", "other.bin"), ["pytorch_model.bin"]),
    "leftovers of training": (
        ("pytorch_model.bin", "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "scaler.pt"),
        ["pytorch_model.bin"],
    ),
    "leftovers beside another name": (("training_args.bin", "optimizer.bin", "last.ckpt"), ["last.ckpt"]),
    "hidden files": ((".a.safetensors", "b.safetensors", ".c.pt"), ["b.safetensors"]),
    "no recursion": (("a.safetensors", "sub/b.safetensors"), ["a.safetensors"]),
}  # fmt: skip


@pytest.mark.parametrize(("names", "expected"), FOLDERS.values(), ids=FOLDERS.keys())
def test_folders(tmp_path: Path, names: tuple[str, ...], expected: list[str]) -> None:
    assert found(touched(tmp_path, *names)) == expected


@pytest.mark.parametrize(
    "names",
    [
        (),
        ("config.json", "README.md"),
        ("training_args.bin", "optimizer.pt"),
        (".hidden.safetensors",),
        ("sub/model.safetensors",),
    ],
)
def test_folders_without_a_checkpoint(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(UnreadableError) as caught:
        found(touched(tmp_path, *names))
    assert (caught.value.code, caught.value.where) == ("CS032", str(tmp_path))
    assert "--recursive" in caught.value.hint


def test_recursion(tmp_path: Path) -> None:
    touched(tmp_path, "z.safetensors", "a/m.safetensors", "a/b/n.pt", "a/b/.hidden.pt", "c/x.txt")
    assert found(tmp_path, recursive=True) == ["z.safetensors", "a/m.safetensors", "a/b/n.pt"]


def test_recursion_survives_a_link_in_a_circle(tmp_path: Path) -> None:
    touched(tmp_path, "a/m.safetensors")
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    assert found(tmp_path, recursive=True)[0] == "a/m.safetensors"


def test_a_folder_of_that_name_is_a_folder(tmp_path: Path) -> None:
    touched(tmp_path, "vit.safetensors/model.safetensors", "m.safetensors")
    assert found(tmp_path) == ["m.safetensors"]
    assert found(tmp_path / "vit.safetensors") == ["model.safetensors"]


def test_a_file_stands_for_itself(tmp_path: Path) -> None:
    path = tmp_path / "whatever.xyz"
    assert checkpoint_paths(path) == (path,)


def test_shards_of_any_name_belong_to_their_index(tmp_path: Path) -> None:
    """Read as checkpoints of their own as well, each would be written twice."""
    for name in ("one.safetensors", "two.safetensors", "vae.safetensors"):
        checkpoint(tmp_path / name, {name[:1]: (2,)})
    index_of(tmp_path, {"o": "one.safetensors", "t": "two.safetensors"})
    assert found(tmp_path) == [INDEX, "vae.safetensors"]
    index_of(tmp_path, {"o": "../one.safetensors"})
    assert len(found(tmp_path)) == 4


def test_read_checkpoint(tmp_path: Path) -> None:
    single = checkpoint(tmp_path / "a.safetensors", {"a": (2,)})
    read = read_checkpoint(single, ReadOptions())
    assert (read.path, read.sharded, len(read.sources)) == (single, False, 1)
    assert read.size == single.stat().st_size
    index = index_of(tmp_path, {"a": "a.safetensors", "b": "b.safetensors"})
    checkpoint(tmp_path / "b.safetensors", {"b": (3,)})
    sharded = read_checkpoint(index, ReadOptions())
    assert (sharded.sharded, len(sharded.sources)) == (True, 2)
    assert sharded.size == sum((tmp_path / f"{n}.safetensors").stat().st_size for n in "ab")
    with pytest.raises(UnreadableError, match="no such file"):
        read_checkpoint(tmp_path / "absent.safetensors", ReadOptions())
