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
        ("growth.py", ["size", "--points", "0.02", "--rounds", "1"], 3),
        ("growth.py", ["sparse", "--points", "0.1", "--rounds", "1"], 3),
        ("growth.py", ["tensors", "--points", "100", "--rounds", "1"], 5),
        ("growth.py", ["shards", "--points", "2", "--rounds", "1"], 3),
        ("startup.py", ["--tensors", "1000", "--rounds", "1", "--files", "3"], 7),
    ],
)
def test_a_benchmark_prints_its_table(script: str, options: list[str], rows: int) -> None:
    command = [sys.executable, str(BENCHMARKS / script), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    printed = [line for line in done.stdout.splitlines() if line]
    titles = 1 if script == "growth.py" else 0
    machine, header, *lines = [printed[0], *printed[1 + titles :]]

    assert "CPUs" in machine
    assert header.split() == ["command", "median", "range", "ratio", "peak"]
    assert len(lines) == rows
    assert all(line.endswith("MiB") for line in lines)


@pytest.mark.long
def test_all_budgets_come_from_one_command(tmp_path: Path) -> None:
    kept = tmp_path / "figures.json"
    small = [
        "--rounds",
        "1",
        "--gigabytes",
        "0.02",
        "--tensors",
        "1000",
        "--header-bytes",
        "200000",
    ]
    points = ["--size-points", "0.02", "0.03", "--sparse-points", "0.1", "--tensors-points", "100"]
    command = [sys.executable, str(BENCHMARKS / "budgets.py"), "--json", str(kept), *small, *points]
    command += ["--shards-points", "1", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # At this size the start of Python decides; that a budget is missed is what the code says.
    assert done.returncode in {0, 1}, done.stderr
    rows = [line.split("  ") for line in done.stdout.splitlines() if line.endswith((" yes", " no"))]
    assert len(rows) > 20
    assert done.returncode == any(row[-1].strip() == "no" for row in rows)
    assert kept.with_suffix(".md").exists()
