"""`--link`: shards that do not change get one more name in the new folder instead of a copy."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

import convsurgeon as cs
from convsurgeon.errors import OutputError, UnreadableError
from convsurgeon.store import FolderDraft, read_shards
from tests.cli_helpers import document, invoke
from tests.files import checkpoint, elsewhere, index_of, listing

SHARDS: dict[str, dict[str, tuple[int, ...]]] = {
    "model-00001-of-00003.safetensors": {"embed.weight": (50, 40)},
    "model-00002-of-00003.safetensors": {"patch.weight": (6, 3, 2, 2), "patch.bias": (6,)},
    "model-00003-of-00003.safetensors": {"head.weight": (4, 6), "norm.weight": (6,)},
}
FIRST, REWRITTEN, LAST = SHARDS
STATED: dict[str, Any] = {"geometry": ["patch=s2"], "verify": "bits"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "vit"
    path.mkdir()
    for name, shapes in SHARDS.items():
        checkpoint(path / name, shapes)
    index_of(path, {key: name for name, shapes in SHARDS.items() for key in shapes})
    (path / "config.json").write_text("{}")
    return path


def swapped(folder: Path, **options: Any) -> Path:
    cs.swap(folder, **{**STATED, "link": True, **options})
    return folder.with_name("vit.linear")


def shared(folder: Path, other: Path) -> set[str]:
    return {p.name for p in folder.iterdir() if p.samefile(other / p.name)}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_only_what_holds_tensors_and_does_not_change_is_linked(folder: Path) -> None:
    before = contents(folder)
    out = swapped(folder)
    assert shared(folder, out) == {FIRST, LAST}
    assert contents(folder) == before
    assert {n for n in before if (out / n).read_bytes() != before[n]} == {REWRITTEN}
    assert {key for shard in read_shards(out / "model.safetensors.index.json") for key in shard.header.by_name} == {
        key for shapes in SHARDS.values() for key in shapes
    }  # fmt: skip


def test_without_it_nothing_is_linked(folder: Path) -> None:
    assert shared(folder, swapped(folder, link=False)) == set()


def test_the_report_says_so(folder: Path) -> None:
    command = ["swap", folder, "--geometry", "patch=s2", "--verify", "bits", "--link"]
    assert "2 files shared with the source: hard links" in invoke(*command).out
    out = folder.with_name("vit.linear")
    assert shared(folder, out) == {FIRST, LAST}
    (file,) = document(*command)[1]["files"]
    assert (file["outcome"], file["linked"]) == ("same", [])
    cs.swap(folder, folder.with_name("other"), **STATED)
    report = cs.swap(folder, folder.with_name("other"), link=True, force=True, **STATED)
    assert (report.files[0].outcome, report.files[0].linked) == ("same", ())
    report = cs.swap(folder, folder.with_name("third"), link=True, **STATED)
    assert report.files[0].to_json()["linked"] == [FIRST, LAST]


def test_a_checkpoint_beside_it_that_has_nothing_to_rewrite_is_linked_too(folder: Path) -> None:
    checkpoint(folder / "head.safetensors", {"head.weight": (5, 4)})
    ran = invoke("swap", folder, "--geometry", "patch=s2", "--verify", "bits", "--link")
    out = folder.with_name("vit.linear")
    assert "head.safetensors, linked" in ran.out.replace("\n", "")
    assert shared(folder, out) == {FIRST, LAST, "head.safetensors"}


def test_proofs_receipts_and_undo_hold_as_for_copies(folder: Path) -> None:
    out = swapped(folder)
    assert cs.verify(folder, out, function=False).equivalent
    receipt = folder.with_name("receipt.json")
    assert invoke("verify", folder, out, "--bits", "--report", receipt).code == 0
    assert invoke("verify", "--receipt", receipt).code == 0
    back = folder.with_name("back")
    cs.restore(out, back)
    assert contents(back) == contents(folder)
    assert shared(back, folder) == set()


def test_a_changed_shard_is_seen_where_it_is_no_longer_the_same(folder: Path) -> None:
    out = swapped(folder)
    replaced = bytearray((out / LAST).read_bytes())
    replaced[-1] ^= 1
    (out / LAST).unlink()
    (out / LAST).write_bytes(replaced)
    assert not cs.verify(folder, out, function=False).equivalent


def test_the_source_outlives_the_new_folder(folder: Path) -> None:
    before = contents(folder)
    out = swapped(folder)
    (folder / "notes.txt").write_text("more")
    swapped(folder, force=True)  # replaces the folder, and removes the old one
    assert shared(folder, out) == {FIRST, LAST}
    for path in out.iterdir():
        path.unlink()
    assert contents(folder) == {**before, "notes.txt": b"more"}


def test_a_link_of_the_hubs_cache_is_followed(folder: Path) -> None:
    snapshot = folder.parent / "hub" / "snapshots" / "abc"
    blobs = folder.parent / "hub" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for path in folder.iterdir():
        path.rename(blobs / path.name)
        (snapshot / path.name).symlink_to(blobs / path.name)
    cs.swap(snapshot, folder.with_name("out"), link=True, **STATED)
    assert shared(blobs, folder.with_name("out")) == {FIRST, LAST}
    assert not any(path.is_symlink() for path in folder.with_name("out").iterdir())


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EMLINK])
def test_what_cannot_be_linked_is_not_copied_instead(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    before = listing(folder.parent)
    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(OutputError) as caught:
        swapped(folder)
    assert (caught.value.code, caught.value.exit_code) == ("CS094", 3)
    assert FIRST in caught.value.message
    assert "--link" in caught.value.hint
    assert ("another file system" in caught.value.message) == (number == errno.EXDEV)
    assert listing(folder.parent) == before


def test_another_file_system_is_refused(folder: Path) -> None:
    with elsewhere(folder) as other:
        with pytest.raises(OutputError) as caught:
            cs.swap(folder, other / "out", link=True, **STATED)
        assert (caught.value.code, listing(other)) == ("CS094", [])
        assert "another file system" in caught.value.message
        cs.swap(folder, other / "out", **STATED)
        assert cs.verify(folder, other / "out", function=False).equivalent


def test_a_shard_that_changed_since_it_was_read_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.link

    def link(old: str, new: Path) -> None:
        path = Path(old)
        path.rename(path.with_suffix(".old"))
        path.write_bytes(path.with_suffix(".old").read_bytes())
        real(path, new)

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(UnreadableError) as caught:
        swapped(folder)
    assert (caught.value.code, caught.value.where) == ("CS038", str(folder / FIRST))
    assert not folder.with_name("vit.linear").exists()


def test_linked_files_are_synced_like_written_ones(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, synced = os.fsync, set()

    def fsync(fd: int) -> None:
        synced.add(os.fstat(fd).st_ino)
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    out = swapped(folder)
    assert synced >= {path.stat().st_ino for path in [*out.iterdir(), out, out.parent]}


def test_a_name_that_is_taken_is_not_overwritten(folder: Path) -> None:
    source = read_shards(folder / "model.safetensors.index.json")[0]
    with FolderDraft(folder.with_name("new"), force=False) as draft:
        draft.write(FIRST, [b"mine"])
        with pytest.raises(OutputError, match="CS094"):
            draft.link(FIRST, source)
        assert (draft.path / FIRST).read_bytes() == b"mine"
        assert draft.link(f"sub/{FIRST}", source).samefile(folder / FIRST)
