"""Every call to the system that a run in place makes fails in turn, and so does every recovery."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from convsurgeon.errors import ConvsurgeonError, NotSyncedError
from convsurgeon.store import Journal, files, in_place, journal_of, opening, sidecar
from tests.cli_helpers import invoke
from tests.in_place_cases import (
    CASES,
    Case,
    Cut,
    Faults,
    content,
    cut_at,
    io_error,
    name_of,
    put_back,
    tear,
)
from tests.in_place_kills import Tally

MEMORY = Path("/dev/shm")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """An empty folder where syncing costs nothing, if there is such a place."""
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path
        return
    with TemporaryDirectory(dir=MEMORY) as place:
        yield Path(place)


def outcome(case: Case, folder: Path, faults: Faults) -> str:
    """Act under faults; return `done`, `warned`, or the code of the error."""
    with faults.installed():
        try:
            report: Any = case.act(folder)
        except ConvsurgeonError as error:
            return error.code
        except OSError:  # on the command line CS037
            return "refused"
    return "warned" if any(file.warning for file in report.files) else "done"


def calls_of(case: Case, folder: Path) -> list[str]:
    faults = Faults(io_error)
    assert outcome(case, folder, faults) == "done"
    return faults.calls


@pytest.mark.parametrize("lasting", [False, True], ids=["one call", "from one call on"])
@pytest.mark.parametrize("name", CASES)
def test_a_call_that_fails(name: str, lasting: bool, folder: Path) -> None:
    case = CASES[name]
    old, new = case.both(folder)
    calls = calls_of(case, folder)
    assert {"pwrite", "fsync", "unlink", "flock"} <= set(calls)
    seen: set[str] = set()
    for number in range(len(calls)):
        put_back(folder, old)
        found = outcome(case, folder, Faults(io_error, number, lasting=lasting))
        seen.add(found)
        at_once = content(folder)
        if found == "done":
            assert visible(folder) == new, number
        elif found == "warned":
            assert new.items() <= at_once.items(), number
        elif found != "CS077":  # it was put back at once
            assert old.items() <= at_once.items(), (number, found)
        case.settle(folder)
        assert visible(folder) in (old, new), (number, found)
        if content(folder).keys() - visible(folder).keys():  # the next run that writes removes it
            case.act(folder)
            assert content(folder) == new, number
    # A disk that stays broken cannot take anything back either.
    assert {"CS077"} <= seen if lasting else {"done", "CS071"} <= seen


def visible(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but stale temporaries, which the next run that writes removes."""
    return {name: data for name, data in content(folder).items() if not name.endswith("-tmp")}


def test_the_order_of_the_calls(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing reaches the file before its journal is synced under its name, in a synced folder."""
    case = CASES["with a sidecar"]
    case.make(folder)
    place, events = journal_of(folder / "model.safetensors"), []
    fsync, pwrite, unlink = os.fsync, os.pwrite, os.unlink

    def kind(fd: int) -> str:
        name = name_of(fd).removeprefix(".")
        if name == folder.name:
            return f"sync folder with{'' if place.exists() else 'out'} journal"
        beside = "journal" if name.startswith(place.name) else "sidecar"
        return "file" if name == "model.safetensors" else beside

    def synced(fd: int) -> None:
        fsync(fd)
        found = kind(fd)
        events.append(found if found.startswith("sync") else f"sync {found}")

    def written(fd: int, *args: Any) -> int:
        events.append(f"write {kind(fd)}")
        return pwrite(fd, *args)

    def removed(path: Any, **more: Any) -> None:
        if Path(path) == place:
            events.append("remove journal")
        unlink(path, **more)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "pwrite", written)
    monkeypatch.setattr(os, "unlink", removed)
    case.act(folder)
    steps = [
        *("write journal", "sync journal", "sync folder with journal", "write file", "sync file"),
        *("write sidecar", "sync sidecar", "sync folder with journal", "remove journal"),
        "sync folder without journal",
    ]
    assert [event for event, _ in groupby(events)][: len(steps)] == steps


@pytest.mark.parametrize("lasting", [False, True], ids=["one call", "from one call on"])
@pytest.mark.parametrize("name", ["with a sidecar", "shards"])
def test_a_recovery_that_fails(
    name: str, lasting: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    case.make(folder)
    old = content(folder)
    with cut_at(monkeypatch, "put"), pytest.raises(Cut):
        case.act(folder)
    tear(folder / Journal.parse(next(folder.glob("*-journal")).read_bytes()).leader)
    left, faults = content(folder), Faults(io_error)
    with faults.installed():
        case.settle(folder)
    codes = set()
    for number in range(len(faults.calls)):
        put_back(folder, left)
        with Faults(io_error, number, lasting=lasting).installed():
            try:
                case.settle(folder)
            except (ConvsurgeonError, OSError) as error:
                codes.add(getattr(error, "code", "refused"))
        case.settle(folder)
        assert visible(folder) == old, number
    assert "CS077" in codes


@pytest.mark.parametrize("name", ["with a sidecar", "shards"])
def test_an_interrupt_takes_everything_back(name: str, folder: Path) -> None:
    case = CASES[name]
    old, new = case.both(folder)
    calls = calls_of(case, folder)

    def interrupt() -> None:
        raise KeyboardInterrupt

    ends = set()
    for number in range(len(calls)):
        put_back(folder, old)
        with suppress(KeyboardInterrupt):
            outcome(case, folder, Faults(interrupt, number))
        case.settle(folder)
        assert visible(folder) in (old, new)
        ends.add(visible(folder) == new)
    assert ends == {False, True}  # before and behind the point of no return


@pytest.mark.parametrize("name", ["with a sidecar", "another sidecar", "shards"])
def test_a_sidecar_that_the_system_denies(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer about the file, which is exit code 1, but one that cannot be had."""
    case = CASES[name]
    old, new = case.both(folder)
    beside = min(n for n in new if n.endswith(".convsurgeon.json"))
    file, real, asked = beside.removesuffix(".convsurgeon.json"), opening.is_there, []

    def is_there(path: Path) -> bool:
        written = path.name == beside and journal_of(folder / file).exists()
        asked.append(written)
        return not written and real(path)

    monkeypatch.setattr(sidecar, "is_there", is_there)
    with pytest.raises(ConvsurgeonError) as caught:
        case.act(folder)
    assert asked.count(True) == 1
    assert (caught.value.code, caught.value.exit_code) == ("CS037", 3)
    assert caught.value.where == str(folder / beside)
    assert content(folder) == old
    monkeypatch.undo()
    case.act(folder)
    assert content(folder) == new


def test_short_writes_are_continued(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["with a sidecar"]
    _, new = case.both(folder)
    pwrite, pread = os.pwrite, os.pread
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: pwrite(fd, bytes(data[:100]), at))
    monkeypatch.setattr(os, "pread", lambda fd, count, at: pread(fd, min(count, 100), at))
    case.act(folder)
    assert content(folder) == new


@pytest.mark.parametrize("call", ["nothing", "lies"])
def test_a_disk_that_takes_nothing_and_one_that_lies(
    call: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES["with a sidecar"]
    old, _ = case.both(folder)
    pwrite = os.pwrite

    def lying(fd: int, data: Any, at: int) -> int:
        if name_of(fd).endswith("-tmp"):
            return pwrite(fd, data, at)
        return 0 if call == "nothing" else len(data)

    monkeypatch.setattr(os, "pwrite", lying)
    with pytest.raises(ConvsurgeonError) as caught:
        case.act(folder)
    # What takes nothing takes nothing back; what only claims to write has the old header still.
    assert caught.value.code == ("CS077" if call == "nothing" else "CS071")
    monkeypatch.setattr(os, "pwrite", pwrite)
    case.settle(folder)
    assert visible(folder) == old


def test_a_last_sync_that_fails_is_a_warning(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["with a sidecar"]
    _, new = case.both(folder)

    def failing(journal: Any, folder: Path) -> None:
        raise NotSyncedError("CS073", "the file is rewritten, but the last sync failed")

    monkeypatch.setattr(in_place, "forget", failing)
    report: Any = case.act(folder)
    assert "CS073" in report.files[0].warning
    assert report.exit_code() == 4
    assert content(folder) == new
    ran = invoke("restore", folder / case.target, "--in-place")
    assert ran.code == 4
    assert "last sync failed" in ran.out


def test_an_interrupt_right_behind_the_point_of_no_return(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES["with a sidecar"]
    _, new = case.both(folder)
    unlink, place = os.unlink, journal_of(folder / case.target)

    def removed(path: Any, **more: Any) -> None:
        unlink(path, **more)
        if Path(path) == place:
            monkeypatch.setattr(os, "unlink", unlink)
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "unlink", removed)
    with pytest.raises(KeyboardInterrupt):
        case.act(folder)
    assert content(folder) == new


@pytest.mark.parametrize("recovering", [False, True])
def test_an_interrupt_waits_until_nothing_is_left_over(
    recovering: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two shards the second one has a journal as well, which says nothing any more."""
    case = CASES["shards"]
    old, new = case.both(folder)
    if recovering:
        with cut_at(monkeypatch, "put"), pytest.raises(Cut):
            case.act(folder)
    first, second = (journal_of(folder / f"{shard}.safetensors") for shard in "ac")
    sync, sent = files.sync, []

    def synced(place: Path) -> None:
        if second.exists() and not first.exists():
            sent.append(place)
            os.kill(os.getpid(), signal.SIGINT)
        sync(place)

    monkeypatch.setattr(in_place, "sync", synced)
    with pytest.raises(KeyboardInterrupt):
        case.settle(folder) if recovering else case.act(folder)
    assert sent == [folder]
    assert content(folder) == (old if recovering else new)


def test_a_full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["with a sidecar"]
    old, _ = case.both(folder)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(ConvsurgeonError, match="No space left") as caught:
        case.act(folder)
    assert caught.value.code == "CS071"
    assert content(folder) == old


TORN = ("with a sidecar", "restored", "shards")  # in the others all that changes is in one write
KILLS = [
    *((name, "run") for name in CASES),
    ("with a sidecar", "recovery"),
    pytest.param("shards", "recovery", marks=pytest.mark.long),
]


def tally_of(name: str, what: str, folder: Path) -> Tally:
    command = [sys.executable, "-m", "tests.in_place_kills", name, what, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Tally(**json.loads(done.stdout))


@pytest.mark.parametrize(("name", "what"), KILLS)
def test_a_process_that_is_killed(name: str, what: str, folder: Path) -> None:
    """At every call, before it and in the middle of each write; then the file is used."""
    tally = tally_of(name, what, folder)
    assert tally.lost == []
    assert min(tally.old, tally.new, tally.journals) > 0
    assert tally.torn > 0 or name not in TORN


def test_the_harness_sees_a_writer_without_a_journal(folder: Path) -> None:
    assert tally_of("with a sidecar", "unsafe", folder).lost
