"""`restore` proves what it writes, as `swap` does: every byte, before the name is given."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

import convsurgeon as cs
from convsurgeon.errors import NotEquivalentError, OutputError, RecipeError, UsageError
from convsurgeon.store import Extent, FileDraft, FolderDraft, Part, read_safetensors
from convsurgeon.store.copying import Written
from tests.cli_helpers import model_file

STATED = ["embed.proj=s2"]


def flipped(parts: Iterable[Part]) -> list[bytes]:
    """The same data with one bit of its last byte wrong, as a failing disk would leave it."""
    data = bytearray(b"".join(in_memory(part) for part in parts))
    data[-1] ^= 1
    return [bytes(data)]


def in_memory(part: Part) -> bytes:
    if isinstance(part, Extent):
        return os.pread(part.fd, part.end - part.begin, part.begin)
    return bytes(part)


pytestmark = pytest.mark.usefixtures("either_writer")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "vit"
    path.mkdir()
    model_file(path / "model.safetensors")
    (path / "notes.txt").write_text("side file")
    cs.swap(path, geometry=STATED, verify="bits")
    return tmp_path / "vit.linear"


def last_tensor(path: Path) -> str:
    return read_safetensors(path).header.in_data_order[-1].name


def test_an_untouched_tensor_that_arrives_wrong_is_never_published(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folder / "model.safetensors"
    assert last_tensor(source) != "embed.proj.weight"
    write = FileDraft.write
    monkeypatch.setattr(
        FileDraft, "write", lambda self, parts, told: write(self, flipped(parts), told)
    )

    with pytest.raises(NotEquivalentError) as caught:
        cs.restore(source, folder.parent / "back.safetensors")
    assert caught.value.code == "CS083"
    assert last_tensor(source) in str(caught.value)
    assert not (folder.parent / "back.safetensors").exists()


@pytest.mark.parametrize("ending", [".safetensors", ".txt"])
def test_no_file_of_a_folder_arrives_wrong(
    folder: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    write: Callable[[FolderDraft, str, Iterable[Part], Written], Path] = FolderDraft.write

    def lying(self: FolderDraft, name: str, parts: Iterable[Part], told: Written) -> Path:
        return write(self, name, flipped(parts) if name.endswith(ending) else parts, told)

    monkeypatch.setattr(FolderDraft, "write", lying)
    with pytest.raises(NotEquivalentError):
        cs.restore(folder, folder.parent / "back")
    assert not (folder.parent / "back").exists()


def test_a_weight_that_was_trained_on_is_named(folder: Path) -> None:
    path = folder / "model.safetensors"
    file = read_safetensors(path)
    data = bytearray(path.read_bytes())
    data[8 + file.header_length + file.header.by_name["embed.proj.weight"].begin] ^= 1
    path.write_bytes(data)

    with pytest.raises(RecipeError, match=r"embed\.proj was changed since the swap") as caught:
        cs.restore(path, folder.parent / "back.safetensors")
    assert caught.value.code == "CS082"


def test_a_folder_that_is_not_there_yet(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with `swap`, a name that does not end in .safetensors is that of a folder."""
    monkeypatch.chdir(folder.parent)
    (report,) = cs.restore("vit.linear/model.safetensors", "new/folder/").files
    assert report.output == "new/folder/model.safetensors"
    original = (folder.parent / "vit" / "model.safetensors").read_bytes()
    assert Path("new/folder/model.safetensors").read_bytes() == original


def test_an_index_alone_says_what_to_name(folder: Path) -> None:
    index = folder / "model.safetensors.index.json"
    index.write_text("{}", "utf-8")
    with pytest.raises(UsageError, match="with its folder") as caught:
        cs.restore(index)
    assert "--in-place" in caught.value.hint


@pytest.mark.parametrize("inside", ["", "back"])
def test_a_folder_is_not_restored_into_itself(folder: Path, inside: str) -> None:
    before = sorted(path.name for path in folder.iterdir())
    with pytest.raises(OutputError) as caught:
        cs.restore(folder, folder / inside, force=True)
    assert caught.value.code == "CS072"
    assert sorted(path.name for path in folder.iterdir()) == before


def test_a_good_restore_is_none_of_this(folder: Path) -> None:
    (row,) = cs.restore(folder, folder.parent / "back").files
    assert row.outcome == "written"
    for path in (folder.parent / "vit").iterdir():
        assert (folder.parent / "back" / path.name).read_bytes() == path.read_bytes()
