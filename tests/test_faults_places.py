"""Places that are full, closed or shared, and sources that change under the reader."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.harness import Bench, bench
from tests.faults.scenarios import SCENARIOS, SWAP, below, state
from tests.faults.strace import traced, why_not
from tests.faults.zygote import Ran, Zygote
from tests.files import NOBODY, listing

ROOT = os.geteuid() == 0


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as process:
        yield process


def check(found: Bench, ran: Ran, reason: str) -> bool:
    """Check that a run has done all or nothing; return whether it was all."""
    now = state(found.point)
    target, done = found.scenario.target, ran.code == 0
    expected = found.expected.after if done else found.expected.before
    assert below(now, target) == below(expected, target)
    assert below(now, found.scenario.source) == below(expected, found.scenario.source)
    assert now == expected, "something is left"
    if not done:
        assert ran.code == 3
        (line,) = ran.err.splitlines()
        assert re.search(reason, line), line
    return done


@pytest.mark.parametrize("name", ["file", "file, --force", "folder", "restore"])
def test_files_that_may_not_grow(zygote: Zygote, name: str) -> None:
    """The last write before the limit is a short one, by the kernel's own doing."""
    with bench(zygote, SCENARIOS[name]) as found:
        done = []
        for largest in range(512, 18_000, 1250):
            ran = zygote.run(replace(found.order(found.copy()), largest=largest))
            done.append(
                check(
                    found,
                    ran,
                    r"File too large \[CS071\]; nothing was left behind; raise the limit",
                )
            )
    assert done[0] is False
    assert done[-1] is True
    assert done == sorted(done)


@contextmanager
def small_disk(place: Path, options: str) -> Iterator[Path]:
    """A file system in memory, with as little room as wanted."""
    if not ROOT:
        pytest.skip("only root mounts a small disk; test_files_that_may_not_grow is the other way")
    place.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    made = subprocess.run(mount, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no small disk can be mounted: {made.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("name", ["file", "file, --force", "folder, --force"])
@pytest.mark.parametrize("kind", ["blocks", "inodes"])
def test_a_full_disk(zygote: Zygote, tmp_path: Path, name: str, kind: str) -> None:
    done = []
    with bench(zygote, SCENARIOS[name]) as found:
        sizes = range(20, 100, 8) if kind == "blocks" else range(3, 24)
        for size in sizes:
            limit = f"size={size}k" if kind == "blocks" else f"nr_inodes={size}"
            with small_disk(tmp_path / "disk", limit) as disk:
                found.point = disk / "point"
                try:
                    found.copy()
                except OSError:
                    continue  # no room for the scenario itself
                ran = zygote.run(found.order(found.point))
                done.append(
                    check(
                        found,
                        ran,
                        r"No space left on device.*\[CS071\]; nothing was left behind; free some",
                    )
                )
    assert done[0] is False
    assert done[-1] is True


@pytest.mark.parametrize("name", ["file", "file, --force", "restore", "folder, --force"])
def test_a_folder_that_is_read_only(zygote: Zygote, name: str) -> None:
    if not ROOT:
        pytest.skip("permissions bind only others; root becomes one here")
    with bench(zygote, SCENARIOS[name]) as found:
        found.copy()
        found.place.chmod(0o755)
        for path in (found.point, *found.point.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
            path.chmod(0o555 if path.is_dir() else 0o444)
        before = state(found.point)
        ran = zygote.run(replace(found.order(found.point), user=NOBODY))
        assert state(found.point) == before
    assert ran.code == 3
    (line,) = ran.err.splitlines()
    assert "Permission denied [CS071]" in line


def overwrite(path: Path) -> None:
    """Other values, the same size."""
    data = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(bytes(b ^ 255 for b in data[-4:]))


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 4)


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def put_another_there(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    overwrite(other)
    other.rename(path)


CHANGES = [overwrite, cut_off, append, put_another_there, Path.unlink]


@pytest.mark.skipif(bool(why_not()), reason=f"no process is stopped: {why_not()}")
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_source_that_changes_at_any_read(zygote: Zygote, change: Callable[[Path], None]) -> None:
    """The output is that of one of the two sources, whole, or there is none."""
    outcomes = set()
    with bench(zygote, SCENARIOS["file"]) as found:
        allowed = [found.expected.after["out.safetensors"][2], of_the_changed(found, change)]
        reads = [c for c in found.calls if "model.safetensors" in c.text and c.name != "close"]
        for call in reads[1:]:  # behind the first, there is a change in every case
            source = found.copy() / "model.safetensors"

            def meanwhile(pid: int, source: Path = source) -> None:
                until_stopped(pid, zygote.scratch / "trace")
                change(source)
                os.kill(pid, signal.SIGCONT)

            stop = f"inject={call.name}:signal=SIGSTOP:when={call.number}"
            options = ["-e", f"trace={call.name}", "-e", stop]
            ran = traced(zygote, found.order(found.point), options, meanwhile)
            output = found.point / "out.safetensors"
            outcomes.add(ran.code)
            assert [name for name in listing(found.point) if name.startswith(".")] == []
            if ran.code == 0:
                assert output.read_bytes() in allowed, call
            else:
                assert (ran.code, output.exists()) == (3, False), (call, ran)
                assert re.search(r"\[CS0(30|36|37|38|4\d)\]", ran.err), (call, ran)
    assert 3 in outcomes
    assert len(reads) > 8


def of_the_changed(found: Bench, change: Callable[[Path], None]) -> bytes | None:
    """What a swap of the changed source gives; None where it is refused."""
    folder = found.copy()
    change(folder / "model.safetensors")
    ran = found.zygote.run(found.order(folder))
    return (folder / "out.safetensors").read_bytes() if ran.code == 0 else None


def until_stopped(pid: int, log: Path) -> None:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if "--- stopped by SIGSTOP ---" in log.read_text("utf-8", "replace"):
            return
        time.sleep(0.001)
    os.kill(pid, signal.SIGKILL)  # or nobody could wait for it


@pytest.mark.parametrize("force", [False, True])
def test_runs_that_want_one_name(zygote: Zygote, force: bool) -> None:
    """Two results, two processes for each: the name has one of them, whole, and its maker says so."""
    with bench(zygote, SCENARIOS["file"]) as found:
        more = ["--force"] if force else []
        layouts = ["c p1 p2", "p1 p2 c"] * 2
        results = [of_layout(found, layout) for layout in layouts]
        folder = found.copy()
        start = [sys.executable, "-m", "convsurgeon", "swap", "model.safetensors", *SWAP]
        runs = [
            subprocess.Popen(
                [*start, "-o", "out.safetensors", "--layout", layout, *more],
                cwd=folder, stderr=subprocess.PIPE, text=True,
            )
            for layout in layouts
        ]  # fmt: skip
        ended = [(run.communicate()[1], run.returncode) for run in runs]
        content = (folder / "out.safetensors").read_bytes()
        assert sorted(listing(folder)) == ["model.safetensors", "out.safetensors"]
    assert content in results
    for (said, code), result in zip(ended, results, strict=True):
        assert code == 0 if force or result == content else code == 3
        assert ("[CS070]" in said) == (code == 3)


def of_layout(found: Bench, layout: str) -> bytes:
    """What an undisturbed run gives."""
    folder = found.copy()
    order = found.order(folder)
    ran = found.zygote.run(replace(order, arguments=(*order.arguments, "--layout", layout)))
    assert ran.code == 0
    return (folder / "out.safetensors").read_bytes()
