"""When the files of a folder are synced: small ones together, large ones at once, all before it."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest

from convsurgeon.errors import OutputError
from convsurgeon.store import FolderDraft, copying, publish
from tests.faulty import fail_at


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc to ask")
def test_small_files_of_a_folder_are_synced_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync = os.fsync

    def synced(fd: int) -> None:
        events.append(f"sync {Path(f'/proc/self/fd/{fd}').readlink().name}")
        fsync(fd)

    monkeypatch.setattr(os, "fsync", synced)
    count = 70
    with FolderDraft(tmp_path / "out", force=False) as draft:
        for number in range(count):
            draft.write(f"{number:03}", [b"x"])
            events.append(f"written {number:03}")
        draft.publish()
        events.append("published")
    names = [f"{number:03}" for number in range(count)]
    assert sorted(event for event in events if event[:4] == "sync" and event[5:] in names) == [
        f"sync {name}" for name in names
    ]
    assert events.index("written 020") < events.index("sync 000")  # not one by one
    assert events.index("sync 000") < events.index("written 040")  # nor all at the end
    assert max(events.index(f"sync {name}") for name in names) < events.index("published")


def test_a_large_file_of_a_folder_is_synced_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "_SYNCED_ALONE", 1 << 20)
    synced: list[int] = []
    fsync = os.fsync

    def sync(fd: int) -> None:
        synced.append(os.fstat(fd).st_size)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", sync)
    with FolderDraft(tmp_path / "out", force=False) as draft:
        draft.write("small", [bytes(1 << 19)])
        assert synced == []
        draft.write("large", [bytes(1 << 20)])
        assert sorted(synced) == [1 << 19, 1 << 20]


def test_a_limit_on_open_files_is_no_limit_on_files(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(path.name) for path in Path("/dev/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 8, before[1]))
    try:
        with FolderDraft(tmp_path / "out", force=False) as draft:
            for number in range(30):
                draft.write(str(number), [b"x"])
            draft.publish()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(list((tmp_path / "out").iterdir())) == 30


def test_the_disk_is_given_each_file_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[int, int]] = []

    def give(_fd: int, begin: int, size: int) -> None:
        given.append((begin, size))

    monkeypatch.setattr(copying, "start_write_back", give)
    monkeypatch.setattr(copying, "STEP", 1 << 20)
    with FolderDraft(tmp_path / "out", force=False) as draft:
        draft.write("tiny", [bytes(100)])
        draft.write("small", [bytes(1 << 19)])
        assert given == [(0, 1 << 19)]
        draft.write("large", [bytes(1 << 20), bytes(1 << 19)])
        assert given[1:] == [(0, 1 << 20), (1 << 20, 1 << 19)]


def test_a_small_file_that_cannot_be_synced_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", fail_at("fsync", 1))
    with (
        pytest.raises(OutputError, match=r"sub.b.*Input/output error"),
        FolderDraft(tmp_path / "out", force=False) as draft,
    ):
        for name in "abc":
            draft.write(f"sub/{name}", [b"x"])
        draft.publish()
    assert list(tmp_path.iterdir()) == []
