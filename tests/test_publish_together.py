"""Several processes publish under one name at the same time."""

from __future__ import annotations

import multiprocessing
import traceback
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest

from convsurgeon.store import FileDraft, FolderDraft
from tests.files import listing

FORK = multiprocessing.get_context("fork")
PROCESSES = 8
ROUNDS = 5
CONTENT = b"the same bytes" * 1000


def publish(kind: str, target: Path, *, force: bool) -> str:
    if kind == "file":
        with FileDraft(target, force=force) as draft:
            draft.write([CONTENT])
            return draft.publish().value
    with FolderDraft(target, force=force) as folder:
        folder.write("sub/x", [CONTENT])
        folder.write("y", [CONTENT])
        return folder.publish().value


def run(kind: str, folder: Path, force: bool, barrier: Barrier, results: Any) -> None:
    for number in range(ROUNDS):
        barrier.wait(30)
        try:
            results.put((number, publish(kind, folder / f"out{number}", force=force)))
        except BaseException:  # noqa: BLE001 - whatever it is, the test shows it
            results.put((number, traceback.format_exc()))


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_all_succeed_and_nothing_is_left(tmp_path: Path, kind: str, force: bool) -> None:
    barrier, results = FORK.Barrier(PROCESSES), FORK.SimpleQueue()
    processes = [
        FORK.Process(target=run, args=(kind, tmp_path, force, barrier, results))
        for _ in range(PROCESSES)
    ]
    for process in processes:
        process.start()
    found = [results.get() for _ in range(PROCESSES * ROUNDS)]
    for process in processes:
        process.join(30)
        assert process.exitcode == 0
    for number in range(ROUNDS):
        outcomes = sorted(outcome for n, outcome in found if n == number)
        assert set(outcomes) <= {"written", "same"}, outcomes
        assert "written" in outcomes
        assert force or outcomes.count("written") == 1
    names = [
        f"out{number}{name}"
        for number in range(ROUNDS)
        for name in (("",) if kind == "file" else ("", "/sub", "/sub/x", "/y"))
    ]
    assert listing(tmp_path) == sorted(names)
    contents = {p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert contents == {CONTENT}
