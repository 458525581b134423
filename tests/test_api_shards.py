"""Sharded folders: every shard arrives, and those that are copied are compared too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

import convsurgeon as cs
from convsurgeon.api import shards
from convsurgeon.errors import NotEquivalentError, UnreadableError
from convsurgeon.header import lay_out, pack

SHARDS: dict[str, dict[str, tuple[int, ...]]] = {
    "model-00001-of-00003.safetensors": {"embed.weight": (5, 4)},
    "model-00002-of-00003.safetensors": {"patch.weight": (6, 3, 2, 2), "patch.bias": (6,)},
    "model-00003-of-00003.safetensors": {"head.weight": (4, 6), "norm.weight": (6,)},
}
REWRITTEN = "model-00002-of-00003.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "vit"
    path.mkdir()
    for name, tensors in SHARDS.items():
        header = pack([(key, "F32", shape) for key, shape in tensors.items()], {"format": "pt"})
        data = bytes(i * 37 % 251 for i in range(header.data_bytes))
        (path / name).write_bytes(lay_out(header) + data)
    weight_map = {key: name for name, tensors in SHARDS.items() for key in tensors}
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    (path / "tokenizer.txt").write_text("side file")
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_only_the_shard_with_the_layer_changes(folder: Path) -> None:
    before = contents(folder)
    report = cs.swap(folder, geometry=["patch=s2"], verify="bits")
    after = contents(folder.with_name("vit.linear"))

    assert after.keys() == before.keys()
    assert {name for name in before if before[name] != after[name]} == {REWRITTEN}
    assert contents(folder) == before
    (file,) = report.files
    assert sum(v.others for v in file.verdicts) == file.plan.tensors - 1 == 4


def test_verify_and_restore_take_the_folder(folder: Path) -> None:
    cs.swap(folder, geometry=["patch=s2"], verify="bits")
    swapped = folder.with_name("vit.linear")

    assert cs.verify(folder, swapped).equivalent
    cs.restore(swapped, folder.with_name("back"))
    assert contents(folder.with_name("back")) == contents(folder)


def test_a_changed_shard_is_named(folder: Path) -> None:
    cs.swap(folder, geometry=["patch=s2"], verify="bits")
    shard = folder.with_name("vit.linear") / "model-00003-of-00003.safetensors"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)

    verdict = cs.verify(folder, folder.with_name("vit.linear"))
    assert not verdict.equivalent
    complaints = [line for file in verdict.files for line in file.complaints]
    assert complaints == ["tensor norm.weight has other bytes"]


@pytest.mark.usefixtures("either_writer")
def spread(folder: Path, name: str, places: dict[str, list[str]]) -> Path:
    """The tensors of a swapped folder as another tool saves them: in other shards."""
    tensors = {k: t for file in folder.glob("*.safetensors") for k, t in load_file(file).items()}
    other = folder.with_name(name)
    other.mkdir()
    for shard, keys in places.items():
        save_file({key: tensors[key] for key in keys}, other / shard, metadata={"format": "pt"})
    if len(places) > 1:
        weight_map = {key: shard for shard, keys in places.items() for key in keys}
        index = {"metadata": {}, "weight_map": weight_map}
        (other / "model.safetensors.index.json").write_text(json.dumps(index))
    return other


def test_the_same_tensors_in_other_shards_are_no_answer(folder: Path) -> None:
    cs.swap(folder, geometry=["patch=s2"], verify="bits")
    keys = {name: list(tensors) for name, tensors in SHARDS.items()}
    one, two, three = keys
    moved = {one: keys[one] + keys[three][:1], two: keys[two], three: keys[three][1:]}
    merged = {"model.safetensors": [key for names in keys.values() for key in names]}
    for name, places in {"moved": moved, "merged": merged}.items():
        other = spread(folder.with_name("vit.linear"), name, places)
        with pytest.raises(UnreadableError, match=r"stands in model-0000.*, and here in") as caught:
            cs.verify(folder, other, geometry=["patch=s2"])
        assert caught.value.code == "CS046"
    same = spread(folder.with_name("vit.linear"), "same", keys)
    assert cs.verify(folder, same, geometry=["patch=s2"], function=False).equivalent
    less = spread(folder.with_name("vit.linear"), "less", {two: keys[two], three: keys[three]})
    assert not cs.verify(folder, less, geometry=["patch=s2"], function=False).equivalent


def test_a_copy_that_lies_is_never_published(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lying(path: Path) -> Iterator[bytes]:
        data = bytearray(path.read_bytes())
        data[-1] ^= path.suffix == ".safetensors"
        yield bytes(data)

    monkeypatch.setattr(shards, "whole_file", lying)
    with pytest.raises(NotEquivalentError) as caught:
        cs.swap(folder, geometry=["patch=s2"], verify="bits")
    assert caught.value.code == "CS083"
    assert [path.name for path in folder.parent.iterdir()] == ["vit"]
