"""The recipe beside a file: believed only where it belongs to it, and never silently left out."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import convsurgeon as cs
from convsurgeon.errors import ConvsurgeonError, OutputError, RecipeError
from convsurgeon.plan import METADATA_KEY
from convsurgeon.store import Sidecar, read_safetensors, sidecar_of
from tests.cli_helpers import STATED, document, model_file, model_shards, model_tensors, read, write
from tests.in_place_cases import content, header_end, padded, swap_in_place


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = model_file(tmp_path / "model.safetensors")
    swap_in_place(found)
    return found


def refused(path: Path) -> ConvsurgeonError:
    """Every command refuses alike."""
    found = []
    for act in (cs.scan, cs.verify, lambda p: cs.restore(p, in_place=True), swap_in_place):
        with pytest.raises(ConvsurgeonError) as caught:
            act(path)
        found.append(caught.value)
    assert {(error.code, error.where) for error in found} == {("CS076", str(sidecar_of(path)))}
    return found[0]


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    place = sidecar_of(path)
    found = json.loads(place.read_bytes())
    edit(found)
    place.write_text(json.dumps(found), "utf-8")


def test_bytes_and_back(path: Path) -> None:
    text = sidecar_of(path).read_bytes()
    assert Sidecar.parse(text).to_bytes() == text


def test_the_sidecar_of_another_file(path: Path) -> None:
    write(path, {**model_tensors(), "more": model_tensors()["head.weight"]})
    assert "another file" in refused(path).message
    sidecar_of(path).unlink()
    assert cs.scan(path, geometry=STATED).files


def test_the_same_header_in_front_of_another_size(path: Path) -> None:
    change(path, lambda found: found["file"].update(size=found["file"]["size"] + 1))
    assert "another file" in refused(path).message


def test_a_header_that_changed_by_one_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    assert data[header_end(path) - 1] == ord(" ")
    text = data[8 : header_end(path)].rstrip(b" ")
    at = 8 + text.index(b'"pt"') + 1
    data[at] = ord("q")
    path.write_bytes(data)
    refused(path)


EDITS: dict[str, Callable[[dict[str, Any]], object]] = {
    "no schema": lambda found: found.pop("schema"),
    "another schema": lambda found: found.update(schema="convsurgeon.sidecar/2"),
    "a further field": lambda found: found.update(more=1),
    "no file": lambda found: found.pop("file"),
    "a file that is a list": lambda found: found.update(file=[]),
    "a further field of the file": lambda found: found["file"].update(name="../../etc/passwd"),
    "a size that is true": lambda found: found["file"].update(size=True),
    "a size that is no integer": lambda found: found["file"].update(size=1.5),
    "a digest that is none": lambda found: found["file"].update(header_sha256="A" * 64),
    "a digest that is a number": lambda found: found["file"].update(header_sha256=0),
    "a recipe that is a text": lambda found: found.update(recipe="{}"),
    "an empty recipe": lambda found: found.update(recipe={}),
    "a recipe of another schema": lambda found: found["recipe"].update(schema="x"),
    "a name that is a path": lambda found: found["recipe"]["original"].update(name="../a"),
    "half a character": lambda found: found["recipe"].update(tool="\ud800"),
    "a deep recipe": lambda found: found["recipe"].update(tool=json.loads("[" * 100 + "]" * 100)),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_damaged_sidecar(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    change(path, edit)
    assert "damaged" in refused(path).message


TEXTS = {
    "empty": b"",
    "no JSON": b"<html>",
    "a list": b"[]",
    "not UTF-8": b'{"schema": "\xff"}',
    "a key twice": b'{"schema": "convsurgeon.sidecar/1", "schema": "convsurgeon.sidecar/1"}',
    "nested": b"[" * 100_000,
    "a long number": b'{"schema": ' + b"1" * 10_000 + b"}",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_no_sidecar_at_all(path: Path, text: bytes) -> None:
    sidecar_of(path).write_bytes(text)
    assert "damaged" in refused(path).message


def test_a_recipe_that_does_not_fit_the_tensors(path: Path) -> None:
    change(path, lambda found: found["recipe"]["steps"][0].update(key="head.weight"))
    with pytest.raises(RecipeError) as caught:
        cs.scan(path)
    assert caught.value.code == "CS082"


def test_one_that_is_too_large(path: Path) -> None:
    with sidecar_of(path).open("ab") as file:
        file.write(b" " * 3000)
    assert cs.scan(path, geometry=STATED).files
    with pytest.raises(RecipeError, match="more than 2000 bytes") as caught:
        cs.scan(path, geometry=STATED, max_header_bytes=2000)
    assert caught.value.code == "CS076"


@pytest.mark.parametrize("kind", ["folder", "pipe", "unreadable link"])
def test_what_is_no_regular_file(path: Path, kind: str) -> None:
    place = sidecar_of(path)
    place.unlink()
    if kind == "folder":
        place.mkdir()
    elif kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to(path.with_name("gone"))
    with pytest.raises(ConvsurgeonError) as caught:
        cs.scan(path)
    assert caught.value.code == ("CS030" if kind == "unreadable link" else "CS037")


def test_a_recipe_in_both_places(tmp_path: Path) -> None:
    """One of them is out of date, and nobody knows which: unless both say the same."""
    path = padded(tmp_path / "model.safetensors", 4096)
    swap_in_place(path)
    prefix, recipe = path.read_bytes()[: header_end(path)], read(path)[1][METADATA_KEY]
    from convsurgeon.plan import Recipe

    same = Sidecar.for_file(prefix, path.stat().st_size, Recipe.from_text(recipe))
    sidecar_of(path).write_bytes(same.to_bytes())
    assert cs.verify(path).equivalent
    change(path, lambda found: found["recipe"].update(tool="another"))
    assert "another recipe" in refused(path).message


def test_a_link_has_the_sidecar_beside_its_name_or_beside_its_file(
    path: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "snapshot"
    folder.mkdir()
    link = folder / "weights.safetensors"
    link.symlink_to(path)
    assert read_safetensors(link).sidecar == sidecar_of(path)
    blob = sidecar_of(path).rename(tmp_path / "blob")
    sidecar_of(link).symlink_to(blob)
    assert read_safetensors(link).sidecar == sidecar_of(link)
    assert cs.verify(link).equivalent


def test_an_output_under_the_name_of_a_file_with_a_sidecar(path: Path, tmp_path: Path) -> None:
    """What --force replaces is the file with its sidecar: that would make the new one unreadable."""
    other = model_file(tmp_path / "other" / "other.safetensors")
    before = content(tmp_path / "other")
    with pytest.raises(OutputError) as caught:
        cs.swap(other, path, geometry=STATED, verify="bits")
    assert (caught.value.code, sidecar_of(path).exists()) == ("CS070", True)
    cs.swap(other, path, geometry=STATED, verify="bits", force=True)
    assert not sidecar_of(path).exists()
    assert cs.verify(path).equivalent
    assert content(tmp_path / "other") == before


def test_an_output_under_the_name_of_a_file_that_went_without_its_sidecar(path: Path) -> None:
    place = sidecar_of(path)
    text = place.read_bytes()
    moved = path.rename(path.with_name("moved"))
    other = model_file(path.parent / "other" / "other.safetensors")
    with pytest.raises(OutputError, match="belongs to another file of this name") as caught:
        cs.swap(other, path, geometry=STATED, verify="bits")
    assert (caught.value.code, place.read_bytes(), path.exists()) == ("CS070", text, False)
    cs.swap(other, path, geometry=STATED, verify="bits", force=True)
    assert cs.verify(path).equivalent
    assert moved.exists()


def test_the_very_bytes_again_leave_the_sidecar(path: Path, tmp_path: Path) -> None:
    text = sidecar_of(path).read_bytes()
    original = model_file(tmp_path / "original" / "model.safetensors")
    swapped = tmp_path / "original" / "out.safetensors"
    cs.swap(original, swapped, geometry=STATED, verify="bits")
    before = path.read_bytes()
    with pytest.raises(OutputError):
        cs.restore(swapped, path)
    assert (path.read_bytes(), sidecar_of(path).read_bytes()) == (before, text)
    cs.restore(swapped, path, force=True)
    assert path.read_bytes() == original.read_bytes()
    assert not sidecar_of(path).exists()


def test_folders_carry_recipes_over(tmp_path: Path) -> None:
    """A rewritten shard takes its recipe into its header; another keeps the sidecar beside it."""
    vit = tmp_path / "vit"
    model_shards(vit)
    before = content(vit)
    swap_in_place(vit / "model.safetensors.index.json")
    shard = vit / "model-00001-of-00002.safetensors"
    assert sidecar_of(shard).exists()
    again = ["--geometry", "stem=s3,p1", "--layer", "head", "--to", "conv", "--method", "1x1"]
    code, _ = document("swap", vit, *again, "-o", tmp_path / "out", "--verify", "bits")
    assert code == 0
    assert sidecar_of(tmp_path / "out" / shard.name).exists()
    assert cs.verify(tmp_path / "out").equivalent
    cs.restore(tmp_path / "out", tmp_path / "back")
    assert content(tmp_path / "back") == before
    cs.swap(
        vit / "model.safetensors.index.json",
        tmp_path / "two",
        to="conv",
        method="1x1",
        layers=["head"],
        verify="bits",
    )
    assert sidecar_of(tmp_path / "two" / shard.name).exists()


def test_a_folder_with_a_rewritten_shard_has_its_recipe_in_the_header(tmp_path: Path) -> None:
    vit = tmp_path / "vit"
    swap_in_place(
        write(
            vit / "model.safetensors",
            {**model_tensors(), "b.weight": model_tensors()["embed.proj.weight"]},
        )
    )
    cs.swap(vit, geometry=["b=s2"], verify="bits")
    out = tmp_path / "vit.linear"
    assert content(out).keys() == {"model.safetensors"}
    assert len(json.loads(read(out / "model.safetensors")[1][METADATA_KEY])["steps"]) == 2
