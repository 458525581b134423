"""Holds the states of `tests.faults.model` against what is promised.

    python -m tests.faults.replay --states 100

runs each scenario once, and the command that follows once for every state that a cut may leave.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from tests.faults.harness import Bench, bench
from tests.faults.judge import complaints, complaints_of_next, complaints_when_mended
from tests.faults.model import OPTIONS, Disk, Tree, states, steps_of
from tests.faults.points import Fault
from tests.faults.scenarios import SCENARIOS, State, state
from tests.faults.strace import Call, traced
from tests.faults.zygote import Ran, Zygote

_CUT = Fault("power cut", Call("no call", 1, 0, ""), (), frozenset())


def replay(found: Bench, each: int, seed: int) -> Iterator[list[str]]:
    """Yield what is wrong with every state that a power cut may leave.

    Args:
        found: a scenario, for whatever writer.
        each: how many states are drawn behind each step.
        seed: of the draw.
    """
    folder = found.copy()
    disk = Disk.holding(folder)
    trace = traced(found.zygote, found.order(folder), OPTIONS).trace
    # The source is read when the steps are, so it has to be there: a rewrite in place copies none.
    steps = list(steps_of(trace, folder))
    for number, tree in states(disk, steps, each, seed):
        put(tree, folder, found.expected.before, found.expected.after)
        seen = Ran(0, "", "") if number == len(steps) else Ran(-9, "", "")
        wrong = complaints(found.scenario, found.expected, state(folder), seen, _CUT)
        if found.scenario.in_place:
            order = replace(found.order(folder), arguments=found.scenario.mend)
            mended = found.zygote.run(order)
            now = state(folder)
            wrong += complaints_when_mended(found.scenario, found.expected, now, mended)
        order = replace(found.order(folder), unsafe="")
        again = found.zygote.run(order)
        wrong += complaints_of_next(found.scenario, found.expected, state(folder), again)
        yield [f"{found.scenario.name}: cut behind step {number}: {text}" for text in wrong]


def put(tree: Tree, folder: Path, *known: State) -> None:
    """Make a folder hold this; files that stay keep their inodes, as they do over a cut."""
    for path in sorted(folder.rglob("*"), reverse=True):
        content = tree.get(str(path.relative_to(folder)), b"")
        if str(path.relative_to(folder)) not in tree or path.is_dir() != (content is None):
            path.rmdir() if path.is_dir() else path.unlink()
    for name in sorted(tree):
        content, path = tree[name], folder / name
        if content is None:
            path.mkdir(exist_ok=True)
        else:
            with path.open("r+b" if path.exists() else "xb") as file:
                file.write(content)
                file.truncate()
        # The model knows no modes: a file has that of whichever of the two it is.
        rows = [rows[name] for rows in known if name in rows]
        same = [row for row in rows if row[2] == (content or b"")]
        for row in (same or rows)[:1]:
            path.chmod(row[1])


def main() -> int:
    """Run the command line; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.replay")
    parser.add_argument("--states", type=int, default=20, help="drawn behind each step")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--unsafe", default="", help="a writer that has to fail")
    parser.add_argument("--most", type=int, help="states for each scenario")
    options = parser.parse_args()
    total = violations = 0
    names = options.scenario or [n for n in SCENARIOS if not SCENARIOS[n].killed_at]
    with Zygote() as zygote:
        for name in names:
            with bench(zygote, SCENARIOS[name], options.unsafe) as found:
                wrong = list(islice(replay(found, options.states, options.seed), options.most))
            total, bad = total + len(wrong), [texts for texts in wrong if texts]
            violations += len(bad)
            sys.stdout.write(f"{name}: {len(wrong)} states, {len(bad)} violations\n")
            sys.stdout.flush()
            sys.stderr.writelines(f"{text[:400]}\n" for texts in bad[:3] for text in texts)
    sys.stdout.write(f"{total} states, {violations} violations\n")
    return int(violations > 0)


if __name__ == "__main__":
    sys.exit(main())
