"""Several processes at one file, and a file that is too large to be read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import convsurgeon as cs
from convsurgeon.header import lay_out, pack
from tests.cli_helpers import EMBED, STATED, model_file
from tests.in_place_cases import Cut, content, cut_at, swap_in_place, tear

MANY = 4


def at_once(*arguments: object) -> list[tuple[int, str]]:
    """Run one command several times side by side; return how each ended."""
    command = [sys.executable, "-m", "convsurgeon", *map(str, arguments), "--quiet"]
    running = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(MANY)
    ]
    errors = [process.communicate()[1] for process in running]
    return [(process.returncode, err) for process, err in zip(running, errors, strict=True)]


def test_runs_side_by_side(tmp_path: Path) -> None:
    path = model_file(tmp_path / "model.safetensors")
    swap_in_place(path)
    new = content(tmp_path)
    cs.restore(path, in_place=True)
    ends = at_once("swap", path, *EMBED, "--in-place", "--verify", "bits")
    assert 0 in [code for code, _ in ends]
    assert all(code == 0 or "CS078" in err or "CS038" in err for code, err in ends), ends
    assert content(tmp_path) == new


def test_recoveries_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = model_file(tmp_path / "model.safetensors")
    old = content(tmp_path)
    with cut_at(monkeypatch, "put"), pytest.raises(Cut):
        swap_in_place(path)
    tear(path)
    ends = at_once("scan", path)
    assert 0 in [code for code, _ in ends]
    assert all(code == 0 or "CS078" in err or "CS038" in err for code, err in ends), ends
    assert content(tmp_path) == old


def test_two_hundred_gigabytes_of_holes(tmp_path: Path) -> None:
    """Nobody has the time to read that, and no block is written behind the header."""
    rows = 200_000_000_000 // 4 // 4096 // 100
    blocks = ((f"blocks.{number}.weight", "F32", (rows, 4096)) for number in range(100))
    header = pack([("embed.proj.weight", "F32", (64, 3, 8, 8)), *blocks], {"format": "pt"})
    path = tmp_path / "model.safetensors"
    first = lay_out(header)
    try:
        with path.open("wb") as file:
            file.write(first)
            file.truncate(file.tell() + header.data_bytes)
    except OSError:
        pytest.skip("the file system of the temporary folder has no files of this size")
    was = path.stat()
    if was.st_blocks * 512 > 1_000_000:
        pytest.skip("the file system of the temporary folder has no holes")
    cs.swap(path, in_place=True, geometry=[STATED[0].replace("s2", "s8")], verify="bits")
    assert (path.stat().st_blocks, path.stat().st_size) == (was.st_blocks, was.st_size)
    cs.restore(path, in_place=True)
    assert path.stat().st_blocks == was.st_blocks
    with path.open("rb") as file:
        assert file.read(len(first)) == first
