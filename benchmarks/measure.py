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


@dataclass
class Runs:
    """What several runs of one command took.

    Attributes:
        seconds: wall time of each run.
        peak_bytes: largest resident set of any of its processes.
    """

    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0

    @property
    def median(self) -> float:
        """Median wall time in seconds."""
        return statistics.median(self.seconds)


def run(command: Sequence[str]) -> tuple[float, int]:
    """Run a command; return its wall time in seconds and its peak memory in bytes.

    Raises:
        RuntimeError: if it fails.
    """
    start = perf_counter()
    null = os.open(os.devnull, os.O_WRONLY)
    actions = [(os.POSIX_SPAWN_DUP2, null, 1)]
    pid = os.posix_spawnp(command[0], list(command), os.environ, file_actions=actions)
    os.close(null)
    _, status, usage = os.wait4(pid, 0)
    seconds = perf_counter() - start
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"{' '.join(command)} failed")
    unit = 1 if sys.platform == "darwin" else 1024
    return seconds, usage.ru_maxrss * unit


def in_turns(
    commands: Mapping[str, Sequence[str]], rounds: int, before: Callable[[], None]
) -> dict[str, Runs]:
    """Run every command once per round, after one round that does not count.

    Args:
        commands: by name.
        rounds: counted rounds.
        before: called before every run, to clear outputs.
    """
    results = {name: Runs() for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            before()
            seconds, peak = run(command)
            if number:
                results[name].seconds.append(seconds)
                results[name].peak_bytes = max(results[name].peak_bytes, peak)
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
