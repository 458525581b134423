"""Every call that publishing makes fails in turn; the order of the calls; a disk that is full."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from convsurgeon.errors import ConvsurgeonError, NotSyncedError, OutputError
from convsurgeon.store import FileDraft, FolderDraft, Outcome, publish
from tests.files import listing

TEXT = b"0123456789" * 10
# What reaches the disk. os.close is left out: it frees the descriptor even where it fails.
CALLS = (
    "open",
    "pwrite",
    "ftruncate",
    "fsync",
    "fchmod",
    "fchown",
    "link",
    "rename",
    "replace",
    "mkdir",
    "unlink",
    "rmdir",
    "fstat",
)


def publish_file(target: Path, *, force: bool = False) -> Outcome:
    with FileDraft(target, force=force) as draft:
        draft.write([TEXT[:40], TEXT[40:]])
        return draft.publish()


def publish_folder(target: Path, *, force: bool = False) -> Outcome:
    with FolderDraft(target, force=force) as draft:
        draft.write("a", [TEXT])
        draft.write("sub/b", [TEXT])
        return draft.publish()


class Faults:
    """Counts the calls to the system, and fails one of them."""

    def __init__(self, fail_at: int | None = None, error: int = errno.EIO) -> None:
        self.fail_at = fail_at
        self.error = error
        self.calls: list[str] = []

    def wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            if len(self.calls) - 1 == self.fail_at:
                raise OSError(self.error, os.strerror(self.error))
            return real(*args, **kwargs)

        return call

    @contextmanager
    def installed(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, self.wrapped(name, getattr(os, name)))
            patch.setattr(fcntl, "flock", self.wrapped("flock", fcntl.flock))
            yield


def prepared(folder: Path, case: str) -> tuple[Callable[..., Outcome], Path, bool]:
    """What is published, where, and whether something is replaced."""
    folder.mkdir()
    kind, replacing = case.split(", ")
    target = folder / "out"
    if replacing == "replaced" and kind == "file":
        target.write_bytes(b"old")
    elif replacing != "new":
        target.mkdir()
        (target / "old").write_bytes(b"old")
    return publish_file if kind == "file" else publish_folder, target, replacing != "new"


def contents(target: Path) -> dict[str, bytes] | bytes | None:
    if target.is_dir():
        return {
            name: (target / name).read_bytes()
            for name in listing(target)
            if (target / name).is_file()
        }
    return target.read_bytes() if target.exists() else None


def attempt(publish: Callable[..., Outcome], target: Path, force: bool) -> tuple[str, str, str]:
    try:
        return publish(target, force=force).value, "", ""
    except ConvsurgeonError as refusal:
        return refusal.code, refusal.where, refusal.message


TWO_STEPS = "folder, replaced in two steps"
CASES = ["file, new", "file, replaced", "folder, new", "folder, replaced", TWO_STEPS]


@pytest.fixture(autouse=True)
def _no_exchange(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system on which two names cannot change places."""
    if TWO_STEPS in request.node.name:
        monkeypatch.setattr(publish, "exchange", lambda *_: False)


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC], ids=errno.errorcode.get)
@pytest.mark.parametrize("case", CASES)
def test_every_call_fails_in_turn(tmp_path: Path, case: str, error: int) -> None:
    publishing, target, force = prepared(tmp_path / "reference", case)
    old = contents(target)
    count = Faults()
    with count.installed():
        assert publishing(target, force=force) is Outcome.WRITTEN
    new = contents(target)
    outcomes: set[str] = set()
    for place, name in enumerate(count.calls):
        publishing, target, force = prepared(tmp_path / f"{place}", case)
        faults = Faults(place, error)
        with faults.installed():
            outcome, where, message = attempt(publishing, target, force)
        assert outcome == "written" or (
            where.startswith(str(target)) and os.strerror(error) in message
        ), (place, name)
        outcomes.add(outcome)
        found, rest = contents(target), [n for n in listing(target.parent) if n.startswith(".")]
        assert found == (old if outcome == "CS071" else new), (place, name, outcome)
        # Nothing is left behind, unless it is the removal itself that failed.
        assert not rest or name in {"unlink", "rmdir", "open", "fstat"}, (place, name, rest)
        assert publishing(target, force=True) is (Outcome.SAME if found == new else Outcome.WRITTEN)
        assert [n for n in listing(target.parent) if n.startswith(".")] == [], (place, name)
    assert outcomes == {"written", "CS071", "CS073"}
    assert len(count.calls) > 8


@pytest.mark.parametrize("case", CASES)
def test_order(tmp_path: Path, case: str) -> None:
    """Each file is synced before it gets its name, the folder after."""
    publishing, target, force = prepared(tmp_path / "x", case)
    faults = Faults()
    with faults.installed():
        publishing(target, force=force)
    if case == "folder, replaced":  # by a call that Python does not know; strace sees it
        pytest.skip("tests/test_faults_calls.py reads the order off the system calls")
    named = {"file, new": "link", "file, replaced": "replace"}.get(case, "rename")
    calls = [call for call in faults.calls if call in {"pwrite", "fsync", named}]
    first, last = calls.index(named), len(calls) - 1 - calls[::-1].index(named)
    assert "pwrite" not in calls[first:]
    assert calls[first - 1] == "fsync"
    assert calls[last + 1 :] == ["fsync"]
    writes = 2
    syncs = calls[:first].count("fsync")  # of each file; a replaced one once more; each folder
    assert calls[:first].count("pwrite") == writes
    # A replaced folder gets the mode of the old one last.
    assert syncs == {"file, new": 1, "file, replaced": 2, TWO_STEPS: 5}.get(case, 4)


def test_the_last_sync_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync
    inodes = []

    def fails_for_the_folder(fd: int) -> None:
        inodes.append(os.fstat(fd).st_ino)
        if inodes[-1] == tmp_path.stat().st_ino:
            raise OSError(errno.EIO, "Input/output error")
        real(fd)

    monkeypatch.setattr(os, "fsync", fails_for_the_folder)
    for publishing, name in ((publish_file, "file"), (publish_folder, "folder")):
        with pytest.raises(NotSyncedError) as caught:
            publishing(tmp_path / name)
        assert (caught.value.code, caught.value.exit_code) == ("CS073", 4)
        assert caught.value.where == str(tmp_path / name)
        assert inodes[-1] == tmp_path.stat().st_ino
    assert listing(tmp_path) == ["file", "folder", "folder/a", "folder/sub", "folder/sub/b"]


@pytest.mark.parametrize("most", [1, 7, 99])
def test_short_writes_are_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, bytes(data)[:most], at))
    publish_file(tmp_path / "out")
    publish_folder(tmp_path / "folder")
    assert (tmp_path / "out").read_bytes() == (tmp_path / "folder" / "a").read_bytes() == TEXT


def test_a_disk_that_takes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: 0)
    with pytest.raises(OutputError) as caught:
        publish_file(tmp_path / "out")
    assert caught.value.code == "CS071"
    assert listing(tmp_path) == []


FULL = """
import resource, sys
from pathlib import Path
from convsurgeon.store import FileDraft
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
try:
    with FileDraft(Path(sys.argv[1]), force=False) as draft:
        draft.write(bytes(1 << 20) for _ in range(5))
        draft.publish()
except Exception as error:
    print(type(error).__name__, error)
"""


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, str(tmp_path / "out")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.startswith(
        f"OutputError {tmp_path / 'out'}: cannot write: File too large [CS071]"
    )
    assert listing(tmp_path) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 3_000_000


def test_without_hard_links_a_rename_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    assert publish_file(tmp_path / "out") is Outcome.WRITTEN
    assert listing(tmp_path) == ["out"]
    assert (tmp_path / "out").read_bytes() == TEXT
