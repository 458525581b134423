"""What the long runs did: `python -m fuzz.summary LOG...`.

Adds the records of logs (`build/fuzz/log.jsonl`) to `fuzz/runs.jsonl`, and writes their sums into
docs/hostile-files.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fuzz.targets import ACCEPTED, TARGETS

RUNS = Path(__file__).parent / "runs.jsonl"
PAGE = Path(__file__).parent.parent / "docs" / "hostile-files.md"
BEGIN, END = "<!-- fuzz: begin -->\n", "<!-- fuzz: end -->\n"
Record = Mapping[str, Any]


def records() -> list[Record]:
    """Return the record of every run."""
    return [json.loads(line) for line in RUNS.read_text().splitlines()]


def table(runs: Iterable[Record]) -> str:
    """Return the sums by target as Markdown, then those of all targets, and what they ran on."""
    found = list(runs)
    head = ("target", "executions", "of them led by coverage", "accepted", "edges", "findings")
    rows = [_row(name, [run for run in found if run["target"] == name]) for name in TARGETS]
    rows.append(_row("all", found, edges=False))
    lines = [head, ("---", *["---:"] * (len(head) - 1)), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + f"\n{_circumstances(found)}\n"


def _row(name: str, runs: list[Record], *, edges: bool = True) -> tuple[str, ...]:
    led = [run for run in runs if run["edges"]]
    return (
        name,
        f"{sum(run['executions'] for run in runs):,}",
        f"{sum(run['executions'] for run in led):,}",
        f"{sum(run['outcomes'].get(ACCEPTED, 0) for run in runs):,}",
        str(max((run["edges"] for run in led), default=0)) if edges else "",
        str(sum(run["findings"] for run in runs)),
    )


def _circumstances(runs: list[Record]) -> str:
    names = sorted({name for run in runs for name in run["versions"]} - {"convsurgeon"})
    versions = (f"{name} {', '.join(_values(name, runs))}" for name in names)
    hours = sum(run["seconds"] for run in runs) / 3600
    return f"{len(runs)} runs, {hours:.1f} hours of processes in all; {', '.join(versions)}."


def _values(name: str, runs: list[Record]) -> Iterator[str]:
    yield from sorted({run["versions"][name] for run in runs if name in run["versions"]})


def written(page: str, runs: Iterable[Record]) -> str:
    """Return the page with the sums of these runs."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(runs)}\n{END}{after}"


def main(logs: Iterable[Path]) -> None:
    """Take over the records of logs, and write the page."""
    known = RUNS.read_text().splitlines() if RUNS.exists() else []
    new = [line for log in logs for line in log.read_text().splitlines() if line not in known]
    RUNS.write_text("".join(f"{line}\n" for line in (*known, *new)))
    PAGE.write_text(written(PAGE.read_text("utf-8"), records()), "utf-8")


if __name__ == "__main__":
    main(map(Path, sys.argv[1:]))
