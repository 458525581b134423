"""`--in-place`: a new header of the old length, the data untouched, the recipe found again."""

from __future__ import annotations

import json
import os
import subprocess
from collections import OrderedDict
from pathlib import Path

import pytest

import convsurgeon as cs
from convsurgeon.errors import ConvsurgeonError, RecipeError
from convsurgeon.plan import METADATA_KEY
from convsurgeon.store import read_alone, read_safetensors, sidecar_of
from tests.cli_helpers import (
    EMBED,
    STATED,
    document,
    f32,
    invoke,
    model_file,
    model_tensors,
    read,
    write,
)
from tests.in_place_cases import content, header_end, padded, swap_in_place

LINEAR = (8, 12)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return model_file(tmp_path / "model.safetensors")


def test_the_header_changes_within_its_length_and_no_other_byte(path: Path) -> None:
    before, end = path.read_bytes(), header_end(path)
    was = path.stat()
    (file,) = swap_in_place(path).files
    after, now = path.read_bytes(), path.stat()
    assert after[end:] == before[end:]
    assert after[:8] == before[:8]
    assert after[8:end].rstrip(b" ").ljust(end - 8, b" ") == after[8:end]
    tensors, metadata = read(path)
    assert tensors["embed.proj.weight"].shape == LINEAR
    assert metadata == {"format": "pt"}
    same = ("st_ino", "st_mode", "st_uid", "st_gid", "st_size", "st_nlink")
    assert all(getattr(was, name) == getattr(now, name) for name in same)
    assert now.st_mtime_ns > was.st_mtime_ns
    assert (file.output, file.outcome) == (str(path), "written")
    assert file.in_place
    assert file.in_place.tensor_bytes == 0
    assert (file.in_place.header_bytes, file.in_place.sidecars) == (end, (str(sidecar_of(path)),))
    assert content(path.parent).keys() == {path.name, sidecar_of(path).name}


def test_extended_attributes_stay(path: Path) -> None:
    try:
        os.setxattr(path, "user.note", b"mine")
    except OSError:
        pytest.skip("the file system of the temporary folder has no extended attributes")
    swap_in_place(path)
    assert os.getxattr(path, "user.note") == b"mine"


def test_restore_gives_back_every_byte(path: Path) -> None:
    before = content(path.parent)
    swap_in_place(path)
    (row,) = cs.restore(path, in_place=True).files
    assert content(path.parent) == before
    assert (row.in_place, row.output, row.layers) == (True, str(path), ("embed.proj",))


def test_a_recipe_that_fits_stands_in_the_header(tmp_path: Path) -> None:
    path = padded(tmp_path / "model.safetensors", 4096)
    before = path.read_bytes()
    (file,) = swap_in_place(path).files
    assert file.in_place
    assert file.in_place.sidecars == ()
    assert METADATA_KEY in read(path)[1]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    cs.restore(path, in_place=True)
    assert path.read_bytes() == before


def test_it_is_used_at_the_exact_length_and_not_one_byte_below(tmp_path: Path) -> None:
    roomy = padded(tmp_path / "a" / "model.safetensors", 4096)
    swap_in_place(roomy)
    needed = len(roomy.read_bytes()[8 : header_end(roomy)].rstrip(b" "))
    for spare in (0, -1):
        path = padded(tmp_path / str(spare) / "model.safetensors", 0)
        # The recorded length of the header has as many digits in both.
        path = padded(path, needed + spare - (header_end(path) - 8))
        swap_in_place(path)
        assert sidecar_of(path).exists() == (spare < 0)


def test_every_reader_finds_the_recipe(path: Path, tmp_path: Path) -> None:
    original = tmp_path / "original" / path.name
    original.parent.mkdir()
    original.write_bytes(path.read_bytes())
    swap_in_place(path)
    (plan,) = cs.scan(path).files
    assert [(v.key, v.verdict.value) for v in plan.layers if v.key.startswith("embed")] == [
        ("embed.proj.weight", "already")
    ]
    assert f"the recipe stands in {sidecar_of(path).name}" in plan.notes
    assert cs.verify(path).equivalent
    assert cs.verify(original, path, function=False).equivalent
    cs.restore(path, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == original.read_bytes()
    link = tmp_path / "links" / "other.safetensors"
    link.parent.mkdir()
    link.symlink_to(path)
    assert cs.verify(link).equivalent


def test_load_finds_the_recipe(path: Path) -> None:
    torch = pytest.importorskip("torch")
    from torch import nn

    embed = nn.Sequential(OrderedDict(proj=nn.Conv2d(3, 8, 2, 2)))
    stem, head = nn.Conv2d(3, 4, 3, bias=False), nn.Linear(8, 5, bias=False)
    model = nn.Sequential(OrderedDict(embed=embed, stem=stem, head=head))
    swap_in_place(path)
    report = cs.load(model, path)
    assert [layer.module for layer in report.replaced] == ["embed.proj"]
    assert embed(torch.ones(1, 3, 4, 4)).shape == (1, 8, 2, 2)


def test_a_normal_swap_carries_the_recipe_into_the_new_file(path: Path, tmp_path: Path) -> None:
    tensors = {**model_tensors(), "other.weight": f32((4, 2, 2, 2), 9)}
    write(path, tensors, {"format": "pt"})
    before = path.read_bytes()
    swap_in_place(path)
    out = tmp_path / "out.safetensors"
    cs.swap(path, out, geometry=["other=s2"], verify="bits")
    assert len(json.loads(read(out)[1][METADATA_KEY])["steps"]) == 2
    cs.restore(out, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("room", "sidecars"), [(0, (True, True)), (900, (False, True)), (4096, (False, False))]
)
def test_a_second_swap_in_place_adds_to_the_first(
    tmp_path: Path, room: int, sidecars: tuple[bool, bool]
) -> None:
    tensors = {**model_tensors(), "other.weight": f32((4, 2, 2, 2), 9)}
    path = padded(tmp_path / "model.safetensors", room, tensors)
    before = content(tmp_path)
    swap_in_place(path)
    first = sidecar_of(path).exists()
    cs.swap(path, in_place=True, geometry=["other=s2"], verify="bits")
    assert (first, sidecar_of(path).exists()) == sidecars
    # One recipe, in one place: the header's would be out of date beside the sidecar's.
    assert (METADATA_KEY in read(path)[1]) != sidecar_of(path).exists()
    assert cs.verify(path).equivalent
    cs.restore(path, in_place=True)
    assert content(tmp_path) == before


def test_a_file_without_metadata_gets_none(tmp_path: Path) -> None:
    path = write(
        tmp_path / "model.safetensors", {**model_tensors(), "b.weight": f32((2, 1, 2, 2), 5)}
    )
    before = content(tmp_path)
    swap_in_place(path)
    cs.swap(path, in_place=True, geometry=["b=s2"], verify="bits")
    assert read_alone(path).header.metadata is None
    cs.restore(path, in_place=True)
    assert content(tmp_path) == before


def test_a_header_of_another_writer_comes_back_byte_for_byte(path: Path) -> None:
    data, end = path.read_bytes(), header_end(path)
    text = (
        data[8:end].rstrip(b" ").replace(b'"dtype"', b' "dtype"').replace(b"embed", b"\\u0065mbed")
    )
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])
    before = content(path.parent)
    swap_in_place(path)
    cs.restore(path, in_place=True)
    assert content(path.parent) == before


def test_a_linear_becomes_a_conv_where_the_shape_fits(tmp_path: Path) -> None:
    path = padded(tmp_path / "model.safetensors", 16)
    before = content(tmp_path)
    report = cs.swap(
        path, in_place=True, to="conv", layers=["head"], input_shape=["head=2x2x2"], verify="bits"
    )
    assert report.files[0].outcome == "written"
    assert read(path)[0]["head.weight"].shape == (5, 2, 2, 2)
    cs.restore(path, in_place=True)
    assert content(tmp_path) == before


def test_the_function_is_proved_too(path: Path) -> None:
    pytest.importorskip("torch")
    before = content(path.parent)
    from convsurgeon.proof.figures import Function

    report = cs.swap(path, in_place=True, geometry=STATED, dry_run=True)
    assert content(path.parent) == before
    assert report.files[0].verdicts == ()
    (file,) = cs.swap(path, in_place=True, geometry=STATED).files
    (layer,) = file.verdicts[0].layers
    assert isinstance(layer.function, Function)
    assert layer.function.equal
    assert file.verdicts[0].others == 3


def test_what_is_not_equivalent_is_never_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convsurgeon.proof import bits

    before = content(path.parent)
    monkeypatch.setattr(bits, "forward", lambda rows, step, size: bytes(len(rows)))
    with pytest.raises(ConvsurgeonError) as caught:
        swap_in_place(path)
    assert caught.value.code == "CS083"
    assert content(path.parent) == before


def test_what_is_not_equivalent_afterwards_is_taken_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convsurgeon.api import in_place

    before = content(path.parent)

    def damaged(place: Path, limit: int) -> object:
        data = bytearray(path.read_bytes())
        data[header_end(path)] ^= 1  # a disk that loses a bit of the data meanwhile
        path.write_bytes(data)
        return read_alone(place, limit)

    monkeypatch.setattr(in_place, "read_alone", damaged)
    with pytest.raises(ConvsurgeonError) as caught:
        swap_in_place(path)
    assert caught.value.code in ("CS083", "CS082")
    after = content(path.parent)
    assert after.keys() == before.keys()
    assert after[path.name][: header_end(path)] == before[path.name][: header_end(path)]


def test_a_dry_run_refuses_what_a_run_refuses_and_writes_nothing(path: Path) -> None:
    before, was = content(path.parent), path.stat()
    code, found = document("swap", path, *EMBED, "--in-place", "--dry-run")
    assert (code, found["files"][0]["outcome"]) == (0, "planned")
    assert found["files"][0]["in_place"]["sidecars"] == [str(sidecar_of(path))]
    assert (content(path.parent), path.stat().st_mtime_ns) == (before, was.st_mtime_ns)
    path.chmod(0o444)
    code, found = document("swap", path, *EMBED, "--in-place", "--dry-run")
    assert (code, found["errors"][0]["code"]) == (3, "CS079")


def test_what_the_reports_say(path: Path) -> None:
    ran = invoke("swap", path, *EMBED, "--in-place", "--dry-run")
    assert "in place, not written (dry run)" in " ".join(ran.out.split())
    ran = invoke("swap", path, *EMBED, "--in-place", "--verify", "bits", columns=200)
    assert f"→ {path}, in place, 0 tensor bytes written, " in ran.out
    assert f"recipe  {sidecar_of(path)}" in ran.out
    assert f"undo    convsurgeon restore --in-place {path}" in ran.out
    ran = invoke("restore", path, "--in-place", columns=200)
    assert "no other byte was touched; written" in ran.out
    report = path.parent / "report.md"
    invoke("swap", path, *EMBED, "--in-place", "--verify", "bits", "--report", report)
    assert "written, in place, 0 tensor bytes written" in report.read_text()


def test_twice_is_once(path: Path) -> None:
    swap_in_place(path)
    after = content(path.parent)
    (file,) = swap_in_place(path).files
    assert file.outcome == "skipped"
    assert content(path.parent) == after


def test_a_file_moved_without_its_sidecar_is_an_ordinary_file(path: Path, tmp_path: Path) -> None:
    swap_in_place(path)
    alone = path.rename(tmp_path / "alone.safetensors")
    assert METADATA_KEY not in read_safetensors(alone).header.metadata_map
    with pytest.raises(RecipeError) as caught:
        cs.restore(alone, tmp_path / "out.safetensors")
    assert caught.value.code == "CS081"


def test_what_is_restored_already_is_cleaned_up_all_the_same(tmp_path: Path) -> None:
    path = model_file(tmp_path / "model.safetensors")
    left = tmp_path / ".model.safetensors.convsurgeon-journal.0a1b2c3d.convsurgeon-tmp"
    left.write_bytes(b"half a journal whose removal failed")
    with pytest.raises(RecipeError):
        cs.restore(path, in_place=True)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_moved_with_its_sidecar_keeps_its_recipe(path: Path, tmp_path: Path) -> None:
    swap_in_place(path)
    moved = path.rename(tmp_path / "moved.safetensors")
    sidecar_of(path).rename(sidecar_of(moved))
    assert cs.verify(moved).equivalent


def test_the_reference_reads_what_is_there(path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    swap_in_place(path)
    with safetensors.safe_open(path, "np") as file:
        assert file.get_tensor("embed.proj.weight").shape == LINEAR


def test_cmp_agrees_behind_the_header(path: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    copy = tmp_path / "copy" / "model"
    copy.write_bytes(path.read_bytes())
    end = header_end(path)
    swap_in_place(path)
    subprocess.run(["cmp", f"--ignore-initial={end}", str(copy), str(path)], check=True)
