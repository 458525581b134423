"""Injects many faults, and prints what came of them.

    python -m tests.faults --points 10000 --jobs 2

The exit code is 1 where anything was lost, and where fewer than nine in ten of the faults were
injected: with two threads, not every call of one run comes again in the next.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from signal import Signals

from tests.faults.harness import Findings, bench
from tests.faults.points import long_run
from tests.faults.scenarios import SCENARIOS
from tests.faults.strace import why_not
from tests.faults.zygote import Zygote

_BATCH = 150
_SHOWN = 600
_RANDOM = (Signals.SIGKILL, Signals.SIGTERM, Signals.SIGINT)


@dataclass(frozen=True)
class Task:
    """A part of a scenario's faults.

    Attributes:
        name: of the scenario.
        count: of all its faults.
        part: which of `parts`.
        parts: into how many its faults are divided.
        seed: of the choice.
        place: where its folders are made.
    """

    name: str
    count: int
    part: int
    parts: int
    seed: int
    place: Path | None

    def run(self) -> Findings:
        """Inject them."""
        with Zygote() as zygote, bench(zygote, SCENARIOS[self.name], place=self.place) as found:
            faults = long_run(found.calls, self.count, self.seed)
            findings = found.disturb(faults[self.part :: self.parts])
            findings.calls = len(found.calls)
            for signal in _RANDOM:
                findings += found.at_random(signal, 10, self.seed + self.part)
        return findings


def tasks(points: int, names: list[str], seed: int, place: Path | None) -> Iterator[Task]:
    """Yield what has to be done, the scenarios in turns."""
    each = -(-points // len(names))
    parts = -(-each // _BATCH)
    for part in range(parts):
        for name in names:
            yield Task(name, each, part, parts, seed, place)


def table(by_scenario: dict[str, Findings]) -> str:
    """Return the findings as Markdown."""
    total = Findings()
    lines = [
        "| scenario | calls | faults injected | not reached | signals at random | violations |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, findings in by_scenario.items():
        total += findings
        lines.append(_row(name, findings))
    lines.append(_row("all", total))
    lines += ["", "| fault | injected | exit codes |", "| --- | --- | --- |"]
    kinds: dict[str, Counter[int]] = {}
    for (kind, code), count in total.kinds.items():
        kinds.setdefault(kind, Counter())[code] += count
    for kind, codes in sorted(kinds.items(), key=lambda item: -item[1].total()):
        ends = ", ".join(f"{code}: {codes[code]}" for code in sorted(codes))
        lines.append(f"| {kind} | {codes.total()} | {ends} |")
    return "\n".join(lines)


def _row(name: str, f: Findings) -> str:
    calls = "" if name == "all" else f.calls
    return (
        f"| {name} | {calls} | {f.injected} | {f.missed} | {f.interrupted} | {len(f.complaints)} |"
    )


def main() -> int:
    """Run the command line; return its exit code."""
    options = _options()
    if why_not():
        sys.stderr.write(f"no faults can be injected: {why_not()}\n")
        return 1
    began = time.monotonic()
    names = options.scenario or list(SCENARIOS)
    found, total = {name: Findings() for name in names}, 0
    with ProcessPoolExecutor(options.jobs) as pool:
        todo = list(tasks(options.points, names, options.seed, options.place))
        running = {pool.submit(task.run): task for task in todo}
        for done, future in enumerate(as_completed(running), 1):
            found[running[future].name] += future.result()
            total = sum(findings.injected for findings in found.values())
            sys.stderr.write(f"{done} of {len(todo)} batches, {total} faults injected\n")
    strace = subprocess.run(["strace", "--version"], capture_output=True, text=True, check=True)
    where = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    sys.stdout.write(
        f"python -m tests.faults --points {options.points} --seed {options.seed}\n"
        f"{where}, {strace.stdout.splitlines()[0]}\n\n{table(found)}\n\n"
    )
    sys.stdout.write(f"{(time.monotonic() - began) / 60:.0f} minutes\n")
    complaints = [text for findings in found.values() for text in findings.complaints]
    sys.stdout.writelines(f"{text[:_SHOWN]}\n" for text in complaints[:_SHOWN])
    return int(bool(complaints) or total < 0.9 * options.points)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--points", type=int, default=1000, help="faults to try")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seed", type=int, default=1, help="of the choice among all faults")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="only these")
    parser.add_argument("--place", type=Path, help="a folder; by default one in memory")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
