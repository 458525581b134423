"""Run commands in turns and read the operating system's account of each.

Absolute times depend on the machine and on what else it does; ratios of commands that ran in turns
in one call do so much less. Medians are quoted, with the range.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import NamedTuple


@dataclass
class Runs:
    """What several runs of one command took.

    Attributes:
        seconds: wall time of each run.
        peak_bytes: largest resident set of any of its processes.
        written_bytes: most that any run gave to the file system to write.
    """

    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    written_bytes: int = 0

    @property
    def median(self) -> float:
        """Median wall time in seconds."""
        return statistics.median(self.seconds)


class Ran(NamedTuple):
    """What one run took: wall time in seconds, peak memory and writes in bytes."""

    seconds: float
    peak_bytes: int
    written_bytes: int


def run(command: Sequence[str]) -> Ran:
    """Run a command and read the system's account of it.

    Raises:
        RuntimeError: if it fails.
    """
    start = perf_counter()
    null = os.open(os.devnull, os.O_WRONLY)
    actions = [(os.POSIX_SPAWN_DUP2, null, 1)]
    # An installed package has its bytecode: the round that does not count may write it.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    pid = os.posix_spawnp(command[0], list(command), environment, file_actions=actions)
    os.close(null)
    _, status, usage = os.wait4(pid, 0)
    seconds = perf_counter() - start
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"{' '.join(command)} failed")
    unit = 1 if sys.platform == "darwin" else 1024
    return Ran(seconds, usage.ru_maxrss * unit, usage.ru_oublock * 512)


def in_turns(
    commands: Mapping[str, Sequence[str]],
    rounds: int,
    before: Callable[[], None] = lambda: None,
    *,
    warm: bool = True,
) -> dict[str, Runs]:
    """Run every command once per round, after one round that does not count.

    Args:
        commands: by name.
        rounds: counted rounds.
        before: called before every run, to clear outputs.
        warm: whether there is a round that does not count.
    """
    results = {name: Runs() for name in commands}
    for number in range(0 if warm else 1, rounds + 1):
        for name, command in commands.items():
            before()
            os.sync()  # what was left to be written is not charged to who comes next
            ran = run(command)
            if number:
                runs = results[name]
                runs.seconds.append(ran.seconds)
                runs.peak_bytes = max(runs.peak_bytes, ran.peak_bytes)
                runs.written_bytes = max(runs.written_bytes, ran.written_bytes)
    return results


def table(results: Mapping[str, Runs], base: str) -> str:
    """Return the results as text, each as a ratio to `base`."""
    lines = [f"{'command':34} {'median':>9} {'range':>17} {'ratio':>7} {'peak':>9}"]
    for name, runs in results.items():
        low, high = min(runs.seconds), max(runs.seconds)
        ratio = runs.median / results[base].median
        peak = f"{runs.peak_bytes / 2**20:.0f} MiB"
        span = f"{low:.3f}..{high:.3f} s"
        lines.append(f"{name:34} {runs.median:7.3f} s {span:>17} {ratio:6.2f}x {peak:>9}")
    return "\n".join(lines)


def machine() -> str:
    """Return what the figures were measured on."""
    return f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
