"""When the files of a folder are synced: small ones together, large ones at once, all before it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from convsurgeon.errors import OutputError
from convsurgeon.store import FolderDraft
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
    synced: list[int] = []
    fsync = os.fsync

    def sync(fd: int) -> None:
        synced.append(os.fstat(fd).st_size)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", sync)
    with FolderDraft(tmp_path / "out", force=False) as draft:
        draft.write("large", [bytes(1 << 20)])
        assert synced == [1 << 20]


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
