"""A folder appears whole, by one rename; temporaries of the dead are removed, of the living kept."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from convsurgeon.errors import OutputError
from convsurgeon.store import FileDraft, FolderDraft, Outcome
from convsurgeon.store import publish as publishing
from convsurgeon.store.exchange import exchange
from convsurgeon.store.files import OLD
from convsurgeon.store.listing import TEMPORARY
from tests.files import listing

FILES = {
    "model.safetensors": b"weights",
    "config.json": b"{}",
    "sub/deeper/x": b"",
    "sub/y": b"y" * 5,
}


def publish(
    target: Path, *, force: bool = False, contents: dict[str, bytes] | None = None
) -> Outcome:
    with FolderDraft(target, force=force) as draft:
        for name, content in (contents or FILES).items():
            draft.write(name, [content])
        return draft.publish()


def contents(folder: Path) -> dict[str, bytes]:
    return {n: (folder / n).read_bytes() for n in listing(folder) if (folder / n).is_file()}


def test_it_appears_by_one_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "out"
    real, seen = os.rename, []

    def watched(source: Path, goal: Path) -> None:
        assert not target.exists()
        real(source, goal)
        seen.append(contents(target))

    monkeypatch.setattr(os, "rename", watched)
    assert publish(target) is Outcome.WRITTEN
    assert seen == [FILES]
    assert [name for name in listing(tmp_path) if "/" not in name] == ["out"]


def test_write_says_where_the_file_is(tmp_path: Path) -> None:
    with FolderDraft(tmp_path / "out", force=False) as draft:
        path = draft.write("sub/y", [b"a", b"b"])
        assert path.read_bytes() == b"ab"
        assert draft.path in path.parents
        assert not (tmp_path / "out").exists()
        with pytest.raises(OutputError) as caught:
            draft.write("sub/y", [b"again"])
        assert (caught.value.code, caught.value.where) == (
            "CS071",
            str(tmp_path / "out" / "sub" / "y"),
        )
    assert listing(tmp_path) == []


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), FolderDraft(tmp_path / "out", force=False) as draft:
        draft.write("sub/y", [b"y"])
        raise error
    assert listing(tmp_path) == []


def test_the_same_folder_is_left_alone(tmp_path: Path) -> None:
    publish(tmp_path / "out")
    before = (tmp_path / "out").stat().st_ino
    for force in (False, True):
        assert publish(tmp_path / "out", force=force) is Outcome.SAME
    assert (tmp_path / "out").stat().st_ino == before
    assert [name for name in listing(tmp_path) if "/" not in name] == ["out"]


OTHERS: dict[str, dict[str, bytes]] = {
    "another byte": {**FILES, "sub/y": b"yyyyx"},
    "one more": {**FILES, "notes.txt": b"mine"},
    "one less": {k: v for k, v in FILES.items() if k != "config.json"},
    "a file for a folder": {"model.safetensors": b"weights", "config.json": b"{}", "sub": b""},
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS.keys())
def test_another_folder_is_kept_and_replaced_by_force(
    tmp_path: Path, other: dict[str, bytes]
) -> None:
    publish(tmp_path / "out", contents=other)
    with pytest.raises(OutputError) as caught:
        publish(tmp_path / "out")
    assert (caught.value.code, caught.value.where) == ("CS070", str(tmp_path / "out"))
    assert contents(tmp_path / "out") == other
    assert publish(tmp_path / "out", force=True) is Outcome.WRITTEN
    assert contents(tmp_path / "out") == FILES
    assert [name for name in listing(tmp_path) if "/" not in name] == ["out"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    assert publish(tmp_path / "out") is Outcome.WRITTEN
    assert contents(tmp_path / "out") == FILES


def empty_file(path: Path) -> None:
    path.touch()


def link_to_an_empty_folder(path: Path) -> None:
    (path.parent / "elsewhere").mkdir()
    path.symlink_to("elsewhere")


def link_to_nothing(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("make", [empty_file, link_to_an_empty_folder, link_to_nothing])
def test_what_is_no_folder_needs_force(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "out")
    with pytest.raises(OutputError) as caught:
        publish(tmp_path / "out")
    assert caught.value.code == "CS070"
    assert publish(tmp_path / "out", force=True) is Outcome.WRITTEN
    assert not (tmp_path / "out").is_symlink()
    assert contents(tmp_path / "out") == FILES
    assert not (tmp_path / "elsewhere").exists() or listing(tmp_path / "elsewhere") == []


def test_new_folders_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        publish(tmp_path / "out")
    finally:
        os.umask(before)
    modes = {
        n: stat.S_IMODE((tmp_path / n).stat().st_mode) for n in ("out", "out/sub", "out/sub/y")
    }
    assert modes == {"out": 0o750, "out/sub": 0o750, "out/sub/y": 0o640}


def test_two_names_change_places(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    publish(one, contents={"a": b"1"})
    other.symlink_to("one")
    if not exchange(one, other):
        pytest.skip("the system or the file system of the tests cannot do it")
    assert one.is_symlink()
    assert contents(other) == {"a": b"1"}
    assert not exchange(one, tmp_path / "absent")
    assert one.is_symlink()


def test_a_system_that_cannot_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    publish(tmp_path / "out", contents={"old": b"old"})
    assert not exchange(tmp_path / "out", tmp_path / "out")
    assert publish(tmp_path / "out", force=True) is Outcome.WRITTEN
    assert contents(tmp_path / "out") == FILES
    assert [name for name in listing(tmp_path) if "/" not in name] == ["out"]


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), KeyboardInterrupt()], ids=repr)
def test_an_error_between_the_two_renames_puts_the_old_one_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(publishing, "exchange", lambda *_: False)
    publish(tmp_path / "out", contents={"old": b"old"})
    real, calls = os.rename, []

    def second_fails(source: Path, goal: Path) -> None:
        calls.append(goal)
        if len(calls) == 2:
            raise error
        real(source, goal)

    monkeypatch.setattr(os, "rename", second_fails)
    with pytest.raises(OutputError if isinstance(error, OSError) else KeyboardInterrupt):
        publish(tmp_path / "out", force=True)
    assert listing(tmp_path) == ["out", "out/old"]


KILLED = """
import os, signal, sys
from pathlib import Path
from convsurgeon.store import FileDraft, FolderDraft, publish
publish.exchange = lambda *_: False
target = Path(sys.argv[1])
if sys.argv[2] == "file":
    with FileDraft(target, force=False) as draft:
        draft.write([b"half"])
        os.kill(os.getpid(), signal.SIGKILL)
real = os.rename
def rename(source, goal):
    if sys.argv[2] == "between" and goal == target:
        os.kill(os.getpid(), signal.SIGKILL)
    real(source, goal)
os.rename = rename
with FolderDraft(target, force=True) as draft:
    draft.write("sub/new", [b"half"])
    if sys.argv[2] == "folder":
        os.kill(os.getpid(), signal.SIGKILL)
    draft.publish()
"""


@pytest.mark.parametrize("kind", ["file", "folder", "between"])
def test_what_a_killed_run_left_is_mended_by_the_next(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "out"
    if kind == "between":
        publish(target, contents={"old": b"old"})
    ran = subprocess.run([sys.executable, "-c", KILLED, str(target), kind], check=False)
    assert ran.returncode == -signal.SIGKILL
    left = [name for name in listing(tmp_path) if "/" not in name]
    assert len(left) == (2 if kind == "between" else 1)
    assert all(name.endswith(TEMPORARY) for name in left)
    assert any(name.endswith(OLD) for name in left) == (kind == "between")
    with FolderDraft(target, force=False) as draft:
        draft.write("x", [b"x"])
    assert listing(tmp_path) == (["out", "out/old"] if kind == "between" else [])


def test_other_names_are_no_temporaries_of_this_one(tmp_path: Path) -> None:
    others = [f".other.0a{TEMPORARY}", f"out.0a{TEMPORARY}", ".out.0a.tmp", f".[o]ut.0a{TEMPORARY}"]
    for name in others:
        (tmp_path / name).touch()
    with FileDraft(tmp_path / "out", force=False):
        pass
    assert listing(tmp_path) == sorted(others)
    with FileDraft(tmp_path / "[o]ut", force=False):
        pass
    assert listing(tmp_path) == sorted(others[:3])


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_living_temporary_is_kept(tmp_path: Path, kind: str) -> None:
    place = tmp_path / f".out.0a{TEMPORARY}"
    place.touch() if kind == "file" else place.mkdir()
    fd = os.open(place, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    child = [
        sys.executable,
        "-c",
        "import sys; from pathlib import Path; from convsurgeon.store import FileDraft\nwith FileDraft(Path(sys.argv[1]), force=False): pass",
        str(tmp_path / "out"),
    ]
    subprocess.run(child, check=True)
    assert listing(tmp_path) == [place.name]
    os.close(fd)
    subprocess.run(child, check=True)
    assert listing(tmp_path) == []
