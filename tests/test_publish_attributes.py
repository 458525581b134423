"""What a replaced output keeps, and what the user is told where that is not possible."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from convsurgeon.errors import OutputError
from convsurgeon.store import FileDraft, FolderDraft
from tests.cli_helpers import EMBED, invoke, model_file
from tests.files import NOBODY, listing, unprivileged

ROOT = os.geteuid() == 0
TEXT = b"new content"
# Owner, group and others, with one more user who may read: the binary form of setfacl -m u:1:r.
ACCESS = "system.posix_acl_access"
LIST = (2).to_bytes(4, "little") + b"".join(
    tag.to_bytes(2, "little") + bits.to_bytes(2, "little") + who.to_bytes(4, "little", signed=True)
    for tag, bits, who in ((1, 6, -1), (2, 4, 1), (4, 0, -1), (16, 4, -1), (32, 0, -1))
)


def replaced(target: Path) -> tuple[str, ...]:
    """Replace a file; return what the user is told."""
    with FileDraft(target, force=True) as draft:
        draft.write([TEXT])
        draft.publish()
    assert target.read_bytes() == TEXT
    return draft.notes


def attributes(path: Path) -> dict[str, bytes]:
    if not hasattr(os, "listxattr"):
        pytest.skip("the system has no extended attributes")
    return {name: os.getxattr(path, name) for name in os.listxattr(path)}


def marked(path: Path, name: str = "user.origin", value: bytes = b"hub") -> Path:
    path.write_bytes(b"old")
    try:
        os.setxattr(path, name, value)
    except (OSError, AttributeError):
        pytest.skip(f"the file system of the tests takes no {name}")
    return path


def test_attributes_of_users_are_kept(tmp_path: Path) -> None:
    target = marked(tmp_path / "out")
    assert replaced(target) == ()
    assert attributes(target)["user.origin"] == b"hub"


def test_an_access_list_is_kept(tmp_path: Path) -> None:
    target = marked(tmp_path / "out", ACCESS, LIST)
    assert replaced(target) == ()
    assert attributes(target)[ACCESS] == LIST
    assert stat.S_IMODE(target.stat().st_mode) == 0o640  # the group's bits are the list's mask


def test_an_access_list_of_the_folder_is_not_taken_over(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"old")
    target.chmod(0o600)
    try:
        os.setxattr(tmp_path, "system.posix_acl_default", LIST)
    except (OSError, AttributeError):
        pytest.skip("the file system of the tests has no access lists")
    assert replaced(target) == ()
    assert (ACCESS in attributes(target), stat.S_IMODE(target.stat().st_mode)) == (False, 0o600)


def test_what_cannot_be_kept_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = marked(tmp_path / "out")

    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(os, "setxattr", refuse)
    assert replaced(target) == ("the replaced file's user.origin could not be kept",)


@pytest.mark.skipif(not ROOT, reason="needs a file of another user")
def test_another_owner_is_said_and_gets_no_privileges(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"old")
    target.chmod(0o6755)
    with unprivileged(tmp_path):
        (note,) = replaced(Path("out"))
    assert "belonged to 0:0" in note
    assert stat.S_IMODE(target.stat().st_mode) == 0o755


@pytest.mark.skipif(not ROOT, reason="only root may give files away")
def test_privileges_of_the_same_owner_stay(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"old")
    os.chown(target, NOBODY, NOBODY)
    target.chmod(0o4755)
    assert replaced(target) == ()
    assert stat.S_IMODE(target.stat().st_mode) == 0o4755


def test_further_names_of_a_replaced_file_are_said(tmp_path: Path) -> None:
    model = model_file(tmp_path / "model.safetensors")
    target = tmp_path / "out.safetensors"
    target.write_bytes(b"old")
    os.link(target, tmp_path / "twin.safetensors")
    command = ("swap", model, "-o", target, "--force", *EMBED, "--verify", "bits")
    ran = invoke(*command)
    assert ran.code == 0
    assert "further names (hard links), which keep the old bytes" in " ".join(ran.out.split())
    assert (tmp_path / "twin.safetensors").read_bytes() == b"old"
    (tmp_path / "again").hardlink_to(target)
    ran = invoke("restore", target, "-o", tmp_path / "twin.safetensors", "--force")
    assert (ran.code, "hard links" in ran.out) == (0, False)


def test_a_replaced_folder_keeps_its_own_mode(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir(mode=0o750)
    (target / "old").touch(mode=0o600)
    with FolderDraft(target, force=True) as draft:
        draft.write("old", [TEXT])
        draft.publish()
    assert stat.S_IMODE(target.stat().st_mode) == 0o750
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((target / "old").stat().st_mode) == 0o666 & ~umask  # it is a new file


def test_who_has_the_old_file_open_keeps_it(tmp_path: Path) -> None:
    """A file that is truncated under a mapping kills the process that reads it; a rename does not."""
    target = tmp_path / "out"
    target.write_bytes(b"old" * 5000)
    with target.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        replaced(target)
        assert view[:3] == b"old"
        assert view[-3:] == b"old"


@contextmanager
def immutable(path: Path) -> Iterator[None]:
    if not ROOT or shutil.which("chattr") is None:
        pytest.skip("only root sets the immutable flag, with chattr")
    done = subprocess.run(["chattr", "+i", path], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("the file system of the tests has no immutable flag")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", path], check=True)


def test_an_immutable_target_is_refused_in_one_line(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"old")
    with immutable(target), pytest.raises(OutputError) as caught:
        replaced(target)
    assert (caught.value.code, caught.value.where) == ("CS071", str(target))
    assert "not permitted" in caught.value.message
    assert target.read_bytes() == b"old"
    assert listing(tmp_path) == ["out"]


READ_ONLY = """
import subprocess, sys
subprocess.run(["mount", "--bind", sys.argv[1], sys.argv[1]], check=True)
subprocess.run(["mount", "-o", "remount,ro,bind", sys.argv[1]], check=True)
sys.exit(subprocess.run([sys.executable, "-m", "convsurgeon", *sys.argv[2:]]).returncode)
"""


def test_a_file_system_that_is_read_only(tmp_path: Path) -> None:
    if not ROOT or shutil.which("unshare") is None:
        pytest.skip("only root mounts, in a mount namespace of its own")
    model = model_file(tmp_path / "model.safetensors")
    command = [sys.executable, "-c", READ_ONLY, str(tmp_path), "swap", str(model), *EMBED]
    ran = subprocess.run(
        ["unshare", "--mount", *command, "--verify", "bits"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "mount" in ran.stderr or "unshare" in ran.stderr:
        pytest.skip(f"mounts are not allowed here: {ran.stderr.splitlines()[-1]}")
    assert ran.returncode == 3
    (line,) = ran.stderr.splitlines()
    assert "Read-only file system [CS071]" in line
    assert listing(tmp_path) == ["model.safetensors"]


def test_a_lock_that_the_system_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OutputError) as caught:
        replaced(tmp_path / "out")
    assert caught.value.code == "CS071"
    assert listing(tmp_path) == []


def test_ctypes_finds_the_call_that_exchanges() -> None:
    """Where it is missing, folders are replaced in two steps; on Linux that would be a regression."""
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux has it")
    assert getattr(ctypes.CDLL(None), "renameat2", None) is not None
