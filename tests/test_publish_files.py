"""An output file: complete or absent, never its own rubbish, and with the rights that it should have."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from convsurgeon.errors import OutputError
from convsurgeon.store import FileDraft, Outcome, Piece
from tests.files import NOBODY, listing, unprivileged

NEW: list[Piece] = [b"new ", b"", memoryview(b"content"), bytearray(b"!")]
TEXT = b"new content!"


def published(target: Path, *, force: bool = False) -> Outcome:
    with FileDraft(target, force=force) as draft:
        draft.write(NEW)
        return draft.publish()


@contextmanager
def masked(umask: int) -> Iterator[None]:
    before = os.umask(umask)
    try:
        yield
    finally:
        os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_nothing_under_the_final_name_before_it_is_published(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with FileDraft(target, force=False) as draft:
        assert not target.exists()
        draft.write(NEW)
        assert not target.exists()
        assert draft.path.read_bytes() == TEXT
        assert draft.path.parent == tmp_path
        assert draft.path.name.startswith(".out.")
        assert draft.publish() is Outcome.WRITTEN
        assert target.read_bytes() == TEXT
    assert listing(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, MemoryError])
@pytest.mark.parametrize("when", ["before", "amid", "after"])
def test_an_error_leaves_nothing(tmp_path: Path, error: type[BaseException], when: str) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"half"
        if when == "amid":
            raise error

    with pytest.raises(error), FileDraft(tmp_path / "out", force=False) as draft:
        if when == "before":
            raise error
        draft.write(pieces())
        assert len(listing(tmp_path)) == 1
        raise error
    assert listing(tmp_path) == []


def test_without_publish_nothing_is_published(tmp_path: Path) -> None:
    with FileDraft(tmp_path / "out", force=True) as draft:
        draft.write(NEW)
    assert listing(tmp_path) == []


@pytest.mark.parametrize("force", [False, True])
def test_the_same_bytes_are_left_alone(tmp_path: Path, force: bool) -> None:
    target = tmp_path / "out"
    target.write_bytes(TEXT)
    os.utime(target, (1, 1))
    before = target.stat()
    assert published(target, force=force) is Outcome.SAME
    after = target.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert listing(tmp_path) == ["out"]


@pytest.mark.parametrize("old", [b"", b"old", TEXT[:-1], TEXT + b"\0", b"x" + TEXT[1:]])
def test_other_bytes_are_not_overwritten(tmp_path: Path, old: bytes) -> None:
    target = tmp_path / "out"
    target.write_bytes(old)
    with pytest.raises(OutputError) as caught:
        published(target)
    assert (caught.value.code, caught.value.where) == ("CS070", str(target))
    assert "--force" in caught.value.hint
    assert target.read_bytes() == old
    assert published(target, force=True) is Outcome.WRITTEN
    assert target.read_bytes() == TEXT
    assert listing(tmp_path) == ["out"]


def test_a_difference_far_behind_is_seen(tmp_path: Path) -> None:
    large = bytes(3 << 20)
    (tmp_path / "out").write_bytes(large[:-1] + b"\1")
    with pytest.raises(OutputError) as caught, FileDraft(tmp_path / "out", force=False) as draft:
        draft.write([large])
        draft.publish()
    assert caught.value.code == "CS070"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o027, 0o077])
def test_new_files_follow_the_umask(tmp_path: Path, umask: int) -> None:
    with masked(umask):
        published(tmp_path / "out")
    assert mode(tmp_path / "out") == 0o666 & ~umask


@pytest.mark.parametrize("old_mode", [0o600, 0o640, 0o664, 0o444])
def test_replaced_files_keep_their_mode(tmp_path: Path, old_mode: int) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"old")
    target.chmod(old_mode)
    with masked(0o027):
        published(target, force=True)
    assert (mode(target), target.read_bytes()) == (old_mode, TEXT)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_replaced_files_keep_their_owner(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"old")
    os.chown(target, NOBODY, NOBODY - 1)
    target.chmod(0o640)
    published(target, force=True)
    found = target.stat()
    assert (found.st_uid, found.st_gid, mode(target)) == (NOBODY, NOBODY - 1, 0o640)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a file of another user")
def test_who_may_not_give_files_away_still_replaces_them(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"old")
    with unprivileged(tmp_path):
        assert published(Path("out"), force=True) is Outcome.WRITTEN
    assert (tmp_path / "out").stat().st_uid == NOBODY


@pytest.mark.parametrize("there", ["other", "nothing"])
def test_a_link_is_replaced_not_followed(tmp_path: Path, there: str) -> None:
    blob, target = tmp_path / "blob", tmp_path / "out"
    if there == "other":
        blob.write_bytes(b"shared")
        blob.chmod(0o604)
    target.symlink_to("blob")
    with pytest.raises(OutputError) as caught:
        published(target)
    assert caught.value.code == "CS070"
    assert target.is_symlink()
    with masked(0o022):
        assert published(target, force=True) is Outcome.WRITTEN
    assert not target.is_symlink()
    assert target.read_bytes() == TEXT
    if there == "other":
        assert (blob.read_bytes(), mode(target)) == (b"shared", 0o604)
    else:
        assert (blob.exists(), mode(target)) == (False, 0o644)


def test_a_link_to_the_same_bytes_stays(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(TEXT)
    (tmp_path / "out").symlink_to("blob")
    assert published(tmp_path / "out", force=True) is Outcome.SAME
    assert (tmp_path / "out").is_symlink()


def test_a_hard_link_keeps_the_old_bytes(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"old")
    os.link(tmp_path / "out", tmp_path / "twin")
    published(tmp_path / "out", force=True)
    assert (tmp_path / "twin").read_bytes() == b"old"


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_is_never_replaced_by_a_file(tmp_path: Path, force: bool) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError) as caught:
        published(tmp_path / "out", force=force)
    assert caught.value.code == "CS070"
    assert ("--force" in caught.value.hint) is not force
    assert listing(tmp_path) == ["out"]


@pytest.mark.parametrize("name", ["absent/out", "file/out", "x" * 250])
def test_places_where_nothing_can_be_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError) as caught:
        published(tmp_path / name)
    assert (caught.value.code, caught.value.where) == ("CS071", str(tmp_path / name))
    assert listing(tmp_path) == ["file"]


def test_a_folder_that_is_read_only(tmp_path: Path) -> None:
    with unprivileged(tmp_path):
        Path().chmod(0o500)
        with pytest.raises(OutputError) as caught:
            published(Path("out"))
        Path().chmod(0o700)
    assert caught.value.code == "CS071"
    assert "Permission denied" in caught.value.message
    assert listing(tmp_path) == []
