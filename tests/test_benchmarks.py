"""The benchmarks run; how fast anything is, no test says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.long
@pytest.mark.parametrize(
    ("script", "options", "rows"),
    [
        ("copying.py", ["--gigabytes", "0.02", "--rounds", "1"], 3),
        ("startup.py", ["--tensors", "1000", "--rounds", "1", "--files", "3"], 7),
    ],
)
def test_a_benchmark_prints_its_table(script: str, options: list[str], rows: int) -> None:
    command = [sys.executable, str(BENCHMARKS / script), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    machine, header, *lines = done.stdout.splitlines()

    assert "CPUs" in machine
    assert header.split() == ["command", "median", "range", "ratio", "peak"]
    assert len(lines) == rows
    assert all(line.endswith("MiB") for line in lines)
