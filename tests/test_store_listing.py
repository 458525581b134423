"""A folder of which a part cannot be seen is an error, never a smaller folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import convsurgeon as cs
from convsurgeon.errors import UnreadableError
from convsurgeon.store.listing import below, files_of, folders_of, is_folder
from tests.cli_helpers import STATED, model_shards
from tests.files import unprivileged


def made(folder: Path) -> Path:
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "x").touch()
    (folder / "y").touch()
    (folder / "z").symlink_to("y")
    (folder / "nowhere").symlink_to("gone")
    (folder / "loop").symlink_to("a")
    return folder


def names(folder: Path, found: list[Path]) -> list[str]:
    return [str(path.relative_to(folder)) for path in found]


def test_what_is_listed(tmp_path: Path) -> None:
    made(tmp_path)
    assert names(tmp_path, files_of(tmp_path, recursive=False)) == ["y", "z"]
    assert names(tmp_path, files_of(tmp_path, recursive=True)) == ["a/b/x", "y", "z"]
    assert names(tmp_path, folders_of(tmp_path)) == [".", "a", "a/b"]
    everything = ["a", "a/b", "a/b/x", "loop", "nowhere", "y", "z"]
    assert sorted(names(tmp_path, list(below(tmp_path)))) == everything
    assert [is_folder(tmp_path / name) for name in ("a", "loop", "y")] == [True, True, False]


def test_what_is_not_there(tmp_path: Path) -> None:
    for ask in (is_folder, folders_of, lambda path: files_of(path, recursive=True)):
        with pytest.raises(UnreadableError) as caught:
            ask(tmp_path / "gone")
        assert (caught.value.code, caught.value.where) == ("CS030", str(tmp_path / "gone"))


@pytest.mark.parametrize("recursive", [False, True])
def test_a_file_that_vanishes_is_no_reason_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recursive: bool
) -> None:
    made(tmp_path)
    real = Path.stat

    def gone(path: Path, **more: bool) -> os.stat_result:
        if path.name == "y" and more.get("follow_symlinks", True):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return real(path, **more)

    monkeypatch.setattr(Path, "stat", gone)
    with pytest.raises(UnreadableError) as caught:
        files_of(tmp_path, recursive=recursive)
    assert caught.value.where == str(tmp_path / "y")


def test_a_folder_that_may_not_be_opened_is_not_left_out(tmp_path: Path) -> None:
    """Its side files would be missing from the output, and nobody would know."""
    model_shards(tmp_path / "model")
    cs.swap(tmp_path / "model", tmp_path / "first", geometry=STATED, verify="bits")
    cs.restore(tmp_path / "first", tmp_path / "second")  # all that is imported late is imported
    for path in (tmp_path / "model").rglob("*"):
        path.chmod(0o644)
    (tmp_path / "model").chmod(0o777)
    with unprivileged(tmp_path):
        folder = Path("model")
        (folder / "tokenizer").mkdir()
        (folder / "tokenizer" / "vocab.txt").write_text("x")
        (folder / "tokenizer").chmod(0)
        with pytest.raises(UnreadableError) as caught:
            cs.swap(folder, Path("out"), geometry=STATED, verify="bits", recursive=True)
        (folder / "tokenizer").chmod(0o700)
        assert not Path("out").exists()
        cs.swap(folder, Path("out"), geometry=STATED, verify="bits", recursive=True)
        assert Path("out/tokenizer/vocab.txt").read_text() == "x"
        Path("out/tokenizer").chmod(0)
        with pytest.raises(UnreadableError):
            cs.restore("out", "again")
        Path("out/tokenizer").chmod(0o700)
    assert caught.value.code == "CS037"
    assert "Permission denied" in caught.value.message
