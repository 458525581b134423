"""How many damaged files are caught, by which proof, and how often a true swap is called different.

    python benchmarks/mutants.py                      # 20,000 mutants, 10,000 true swaps
    python benchmarks/mutants.py --count 100000 --seed 7
    python benchmarks/mutants.py --page docs/mutation.md

What is true about a mutant is found by benchmarks/mutation without the package. A mutant that is
another function has to be caught by the bits *and* by the function proof alone, with the bits
switched off; one of the same function (payloads of NaN, signs of zeros) by the bits only.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from time import perf_counter

import torch
from accuracy import put
from mutation.alarms import Sound, sound
from mutation.judge import WITHOUT_RECORD, judged
from mutation.judged import Judged
from mutation.mutants import KINDS
from mutation.oracle import Truth

SEED = 1
_COLUMNS = (
    *("mutants", "refused to compare", "bits say no", "function alone says no"),
    *("the same function, as is true", "holds as given", "**survivors**", "hit nothing"),
)


def figures(some: Iterable[Judged]) -> Counter[str]:
    """Count what became of some mutants, one entry for each column."""
    found: Counter[str] = Counter()
    for one in some:
        if one.survived:
            found["**survivors**"] += 1
        if one.found.truth is Truth.SAME:
            found["hit nothing"] += 1
            continue
        found["mutants"] += 1
        found["refused to compare"] += bool(one.refused)
        found["bits say no"] += one.bits is False
        found["function alone says no"] += one.function is False
        found["the same function, as is true"] += one.found.truth is Truth.SAME_FUNCTION
        found["holds as given"] += one.found.truth is Truth.OTHER_CLAIM and bool(one.bits)
    return found


def table(title: str, groups: dict[str, Counter[str]]) -> list[str]:
    """Return the lines of a table, one row for each group."""
    head = [f"| {title} | " + " | ".join(_COLUMNS) + " |", "|---" + "|---:" * len(_COLUMNS) + "|"]
    rows = ((name, [f"{row[column]:,}" for column in _COLUMNS]) for name, row in groups.items())
    return [*head, *(f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows)]


def grouped(some: Iterable[Judged], name: Callable[[Judged], str]) -> dict[str, list[Judged]]:
    """Return some mutants in groups: kinds in the order of their table, others as they turn up."""
    groups: dict[str, list[Judged]] = {}
    places = {kind: place for place, kind in enumerate(KINDS)}
    for one in sorted(some, key=lambda one: places.get(one.mutant.kind, len(places))):
        groups.setdefault(name(one), []).append(one)
    return groups


def _kind(one: Judged) -> str:
    foreign = one.mutant.kind.startswith(WITHOUT_RECORD)
    return f"{WITHOUT_RECORD}all of elements" if foreign else one.mutant.kind


_BY: dict[str, Callable[[Judged], str]] = {
    "kind": _kind,
    "dtype": lambda one: one.of.dtype,
    "form": lambda one: one.of.form,
    "rule": lambda one: one.of.rule,
    "layout": lambda one: one.of.layout,
}


def report(everything: list[Judged]) -> list[str]:
    """Return the tables, and each survivor."""
    lines = table("", {"all": figures(everything)})
    for title, name in _BY.items():
        groups = grouped(everything, name)
        lines += ["", *table(title, {key: figures(groups[key]) for key in groups})]
    survivors = [f"- survived: {one}" for one in everything if one.survived]
    return [*lines, *[""] * bool(survivors), *survivors]


def alarms(some: list[Sound]) -> list[str]:
    """Return what was compared without damage, and what was called different."""
    wrong = [one for one in some if one.called_different]
    shapes = len({(one.of.to, one.of.rule, one.of.conv) for one in some})
    first = (
        f"{len(some):,} true swaps of {shapes:,} geometries, each also against its digests, and "
        f"each of the two files against itself: {len(wrong):,} called different."
    )
    return [first, *(f"- {one.of}: {', '.join(one.called_different)}" for one in wrong)]


def enough(work: Path, wanted: int, seed: int) -> Iterator[Judged]:
    """Judge case after case until there are enough mutants."""
    done = 0
    for number in count():
        if done >= wanted:
            return
        for one in judged(work, [number], seed):
            done += one.found.truth is not Truth.SAME
            yield one


def main() -> None:
    """Damage, ask and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=20_000, help="mutants, at least")
    parser.add_argument("--swaps", type=int, default=10_000, help="true swaps")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--page", type=Path, help="write the tables between their marks")
    options = parser.parse_args()
    torch.set_num_threads(1)  # layers of some hundred elements
    with tempfile.TemporaryDirectory() as work:
        start = perf_counter()
        everything = list(enough(Path(work), options.count, options.seed))
        seconds = perf_counter() - start
        swaps = list(sound(Path(work), range(options.swaps), options.seed))
    day, python = f"{datetime.now(UTC):%Y-%m-%d}", platform.python_version()
    rate = len(everything) / seconds
    lines = [f"Seed {options.seed}, {rate:,.0f} mutants a second; {day}, Python {python}.", ""]
    lines += [*report(everything), "", *alarms(swaps)]
    print("\n".join(lines))
    if options.page:
        put(options.page, "mutants", lines)
    if any(one.survived for one in everything) or any(one.called_different for one in swaps):
        sys.exit(1)


if __name__ == "__main__":
    main()
