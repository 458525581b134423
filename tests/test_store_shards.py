"""Shard indexes: they name plain files of their own folder, and agree with them both ways."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import convsurgeon as cs
from convsurgeon.errors import ConvsurgeonError, ShardError, UnreadableError
from convsurgeon.store import read_shards
from tests.files import checkpoint, index_of

ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
GOOD = {"a": ONE, "b": ONE, "c": TWO}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """snapshots/rev, as deep as in the Hub's cache."""
    path = tmp_path / "snapshots" / "rev"
    path.mkdir(parents=True)
    checkpoint(path / ONE, {"a": (2,), "b": (1, 3)})
    checkpoint(path / TWO, {"c": (4,)})
    return path


def refused(index: Path, kind: type[ConvsurgeonError] = ShardError) -> ConvsurgeonError:
    with pytest.raises(ConvsurgeonError) as caught:
        read_shards(index)
    error = caught.value
    assert type(error) is kind
    assert str(error).count("\n") == 0
    assert error.where
    assert error.hint
    return error


def test_a_good_index(folder: Path) -> None:
    shards = read_shards(index_of(folder, GOOD))
    assert [shard.path for shard in shards] == [folder / ONE, folder / TWO]
    assert [sorted(shard.header.by_name) for shard in shards] == [["a", "b"], ["c"]]
    assert cs.scan(folder).files[0].tensors == 3


DISAGREE: dict[str, tuple[dict[str, str], str]] = {
    "in another shard": ({**GOOD, "b": TWO}, "'b' stands in model-00001"),
    "in no shard": ({**GOOD, "x": TWO}, "'x' stands in no shard"),
    "not in the index": ({"a": ONE, "c": TWO}, "'b' stands in model-00001"),
    "missing shard": ({**GOOD, "d": "model-00003-of-00002.safetensors"}, "is missing"),
}


@pytest.mark.parametrize(("weight_map", "words"), DISAGREE.values(), ids=DISAGREE.keys())
def test_index_and_shards_disagree(folder: Path, weight_map: dict[str, str], words: str) -> None:
    error = refused(index_of(folder, weight_map))
    assert error.code == "CS046"
    assert words in error.message


def test_one_tensor_in_two_shards(folder: Path) -> None:
    checkpoint(folder / TWO, {"a": (2,), "c": (4,)})
    error = refused(index_of(folder, GOOD))
    assert (error.code, error.message) == ("CS046", "one tensor stands in two shards")


def test_a_broken_shard_is_named(folder: Path) -> None:
    (folder / TWO).write_bytes((folder / TWO).read_bytes()[:-1])
    error = refused(index_of(folder, GOOD), UnreadableError)
    assert (error.code, error.where) == ("CS036", str(folder / TWO))


DEEP = '{"weight_map":' * 50_000
TEXTS: dict[str, str | bytes] = {
    "not JSON": "weights",
    "cut off": '{"weight_map":{"a":"' + ONE + '"',
    "array": "[]",
    "null": "null",
    "no weight_map": '{"metadata":{}}',
    "empty weight_map": '{"weight_map":{}}',
    "weight_map is an array": '{"weight_map":["a"]}',
    "name is a number": '{"weight_map":{"a":1}}',
    "name is null": '{"weight_map":{"a":null}}',
    "name is an array": '{"weight_map":{"a":["' + ONE + '"]}}',
    "a key twice": f'{{"weight_map":{{"a":"{ONE}","a":"{ONE}","b":"{ONE}","c":"{TWO}"}}}}',
    "two weight_maps": f'{{"weight_map":{json.dumps(GOOD)},"weight_map":{json.dumps(GOOD)}}}',
    "an equal key by escape": f'{{"weight_map":{{"a":"{ONE}","\\u0061":"{ONE}"}}}}',
    "deep nesting": DEEP + "1" + "}" * 50_000,
    "deep arrays": "[" * 100_000,
    "digits without end": '{"a":' + "9" * 6000 + "}",
    "not UTF-8": b'{"weight_map":{"\xff":"x"}}',
    "UTF-16": json.dumps({"weight_map": GOOD}).encode("utf-16"),
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_malformed(folder: Path, text: str | bytes) -> None:
    index = folder / "model.safetensors.index.json"
    index.write_bytes(text if isinstance(text, bytes) else text.encode())
    error = refused(index)
    assert (error.code, error.where) == ("CS045", str(index))


NAMES = {
    "parent": "../../outside.safetensors",
    "parent in between": f"x/../{ONE}",
    "folder": "sub/inside.safetensors",
    "this folder": f"./{ONE}",
    "absolute": "/etc/passwd",
    "backslash": "..\\..\\outside.safetensors",
    "drive": "C:\\x.safetensors",
    "NUL": f"{ONE}\0.txt",
    "newline": "a\nb",
    "escape": "a\x1b[2Jb",
    "DEL": "a\x7f",
    "half a surrogate pair": "a\ud800",
    "empty": "",
    "dot": ".",
    "two dots": "..",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES.keys())
def test_names_that_lead_elsewhere(folder: Path, name: str) -> None:
    checkpoint(folder.parents[1] / "outside.safetensors", {"z": (1,)})
    (folder / "sub").mkdir()
    checkpoint(folder / "sub" / "inside.safetensors", {"z": (1,)})
    error = refused(index_of(folder, {**GOOD, "z": name}))
    assert error.code == "CS045"
    assert "no plain file name" in error.message
    assert "\x1b" not in str(error)
    str(error).encode("utf-8")


def test_a_name_that_is_too_long(folder: Path) -> None:
    for name in ("x" * 256, "é" * 128):
        assert refused(index_of(folder, {**GOOD, "z": name})).code == "CS045"
    for name in ("x" * 255, "é" * 127):
        assert refused(index_of(folder, {**GOOD, "z": name})).code == "CS046"


def test_a_shard_that_is_a_folder(folder: Path) -> None:
    (folder / "sub").mkdir()
    assert refused(index_of(folder, {**GOOD, "z": "sub"}), UnreadableError).code == "CS037"


def elsewhere(folder: Path) -> Path:
    return checkpoint(folder.parents[1] / "elsewhere.safetensors", {"c": (4,)})


def below_blobs(folder: Path) -> Path:
    place = folder.parents[1] / "blobs" / "deeper"
    place.mkdir(parents=True)
    return checkpoint(place / "0a", {"c": (4,)})


def blobs_next_to_it(folder: Path) -> Path:
    (folder / "blobs").mkdir()
    return checkpoint(folder / "blobs" / "0a", {"c": (4,)})


@pytest.mark.parametrize("make", [elsewhere, below_blobs, blobs_next_to_it])
@pytest.mark.parametrize("relative", [True, False])
def test_a_link_out_of_the_folder(
    folder: Path, make: Callable[[Path], Path], relative: bool
) -> None:
    target = make(folder)
    (folder / TWO).unlink()
    (folder / TWO).symlink_to(os.path.relpath(target, folder) if relative else target)
    error = refused(index_of(folder, GOOD))
    assert error.code == "CS045"
    assert "link out of the folder" in error.message


def test_a_link_to_itself(folder: Path) -> None:
    (folder / TWO).unlink()
    (folder / TWO).symlink_to(TWO)
    assert refused(index_of(folder, GOOD), UnreadableError).code == "CS037"


def test_a_link_to_nothing(folder: Path) -> None:
    (folder / TWO).unlink()
    (folder / TWO).symlink_to("../../blobs/absent")
    assert refused(index_of(folder, GOOD)).code == "CS046"


def test_the_layout_of_the_hubs_cache(folder: Path) -> None:
    blobs = folder.parents[1] / "blobs"
    blobs.mkdir()
    index = index_of(folder, GOOD)
    for number, path in enumerate([folder / ONE, folder / TWO, index]):
        path.rename(blobs / f"{number:064x}")
        path.symlink_to(f"../../blobs/{number:064x}")
    shards = read_shards(index)
    assert [shard.path.name for shard in shards] == [ONE, TWO]
    with shards[1].reader() as reader:
        assert len(reader.read(0, 16)) == 16
