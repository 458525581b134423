"""Files of hundreds of gigabytes and of many tensors: the work grows with what is asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_files import write, write_shards, write_tensors

import convsurgeon as cs
from convsurgeon.header import pack
from tests.cli_helpers import document, invoke
from tests.files import counting

HUGE = 300_000_000_000
STATED = {"geometry": ["proj=s16"]}


def hole(folder: Path, size: int) -> Path:
    """A checkpoint whose data is a hole, but for a few bytes in the middle."""
    rows = size // (4096 * 4 * 4)
    blocks = [(f"blocks.{i}.weight", "F32", (rows, 4096)) for i in range(4)]
    header = pack([("proj.weight", "F32", (64, 3, 16, 16)), *blocks], {"format": "pt"})
    path = folder / "model.safetensors"
    try:
        write(path, header, sparse=True)
    except OSError as error:
        pytest.skip(f"no file of {size} bytes can be made here: {error.strerror}")
    with path.open("r+b") as file:
        file.seek(size // 2)
        file.write(counting(1000))
    if path.stat().st_blocks * 512 > size // 2:
        pytest.skip("the file system knows no holes")
    return path


def test_the_header_of_300_gigabytes_is_read_and_planned(tmp_path: Path) -> None:
    path = hole(tmp_path, HUGE)
    code, found = document("scan", path, "--geometry", "proj=s16")
    assert (code, found["files"][0]["bytes"]) == (0, path.stat().st_size)
    assert path.stat().st_size > HUGE
    planned = cs.swap(path, dry_run=True, **STATED)  # type: ignore[arg-type]
    assert [file.outcome for file in planned.files] == ["planned"]
    assert invoke("scan", path, "--explain", "proj").code == 0


def test_the_copy_of_a_hole_takes_no_room(tmp_path: Path) -> None:
    path, out = hole(tmp_path, 200_000_000), tmp_path / "out.safetensors"
    cs.swap(path, out, verify="bits", layout="p1 p2 c", geometry=["proj=s16"])
    assert out.stat().st_blocks * 512 < 1_000_000
    assert counting(1000) in out.read_bytes()[100_000_000:100_100_000]
    with out.open("r+b") as file:  # where both have a hole, the proof looks all the same
        file.seek(100_000_000)
        file.write(b"\1")
    assert not cs.verify(path, out, function=False).equivalent


def calls(work: Callable[[], object]) -> int:
    """How many functions a piece of work calls, those of C included."""
    count = 0

    def watch(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(watch)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


WORK: dict[str, Callable[[Path, Path], object]] = {
    "scan": lambda path, _: cs.scan(path, **STATED),  # type: ignore[arg-type]
    "swap": lambda path, out: cs.swap(path, out, verify="bits", geometry=["proj=s16"]),
    "verify": lambda path, out: cs.verify(path, out, function=False),
    "restore": lambda _, out: cs.restore(out, out.with_name(f"{out.name}.again")),
}


def work_of(path: Path, out: Path) -> dict[str, int]:
    return {name: calls(lambda work=work: work(path, out)) for name, work in WORK.items()}  # type: ignore[misc]


def test_ten_times_the_tensors_are_ten_times_the_work(tmp_path: Path) -> None:
    found = []
    for count in (300, 3000):
        folder = tmp_path / str(count)
        folder.mkdir()
        write_tensors(folder / "model.safetensors", count)
        work_of(folder / "model.safetensors", folder / "warm.safetensors")  # what is imported late
        found.append(work_of(folder / "model.safetensors", folder / "out.safetensors"))
    few, many = found
    assert {
        name: round(many[name] / few[name], 1) for name in WORK if many[name] > 10 * few[name]
    } == {}
    assert min(many.values()) > 3000


def test_ten_times_the_shards_are_ten_times_the_work(tmp_path: Path) -> None:
    found = []
    for count in (3, 30):
        folder = tmp_path / str(count) / "model"
        write_shards(folder, count, 2, 0.0)
        work_of(folder, folder.with_name("warm"))
        found.append(work_of(folder, folder.with_name("out")))
    few, many = found
    assert {
        name: round(many[name] / few[name], 1) for name in WORK if many[name] > 10 * few[name]
    } == {}


def test_the_count_sees_work_that_grows_faster() -> None:
    def squared(size: int) -> Callable[[], object]:
        return lambda: [abs(i) for i in range(size) for _ in range(size)]

    assert calls(squared(30)) > 50 * calls(squared(3))
