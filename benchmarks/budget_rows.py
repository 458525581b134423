"""From figures to budgets: what was measured, what was promised, and whether it holds."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import commands as c
from copying import COPY, LOAD, SWAP

Document = Mapping[str, Any]
MEGA = 1_000_000


@dataclass(frozen=True)
class Budget:
    """One budget.

    Attributes:
        what: what is measured.
        measured: the figure; None where its section was not measured.
        limit: what it may be at most, or has to be at least.
        unit: of both.
        least: whether the limit is a lower one.
    """

    what: str
    measured: float | None
    limit: float
    unit: str
    least: bool = False

    @property
    def met(self) -> bool | None:
        """Whether it is met; None where that was not measured."""
        if self.measured is None:
            return None
        return self.measured >= self.limit if self.least else self.measured <= self.limit

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """The row of a table: what, measured, budget, met."""
        words = {None: "not measured", True: "yes", False: "no"}
        measured = "-" if self.measured is None else _figure(self.measured, self.unit)
        bound = "at least" if self.least else "at most"
        return self.what, measured, f"{bound} {_figure(self.limit, self.unit)}", words[self.met]


def _figure(value: float, unit: str) -> str:
    if unit == "bytes":
        return f"{value:,.0f} bytes"
    if unit == "MB":
        return f"{value:.0f} MB"
    if unit == "x":
        return f"{value:.2f}x" if value < 10 else f"{value:.0f}x"
    return f"{value:.3f} {unit}"


def median(run: Mapping[str, Any]) -> float:
    """Return the median time of a command."""
    return float(statistics.median(run["seconds"]))


def budgets(document: Document) -> list[Budget]:
    """Return every budget that belongs to files, in the order of the design."""
    return [
        *_copying(document.get("copying")),
        *_memory(document),
        _in_place(document.get("in place")),
        *_commands(document.get("commands")),
        *_parsing(document.get("parsing")),
    ]


def _copying(section: Document | None) -> Iterator[Budget]:
    def ratio(one: str, other: str, of: Callable[[Document], float]) -> float | None:
        return of(section["runs"][one]) / of(section["runs"][other]) if section else None

    size = f"{section['gigabytes']:g} GB" if section else "2 GB"
    yield Budget(
        f"`swap --verify bits`, {size}: time, as a multiple of `cp`, `sync`, `cmp`",
        ratio(SWAP, COPY, median), 1.1, "x",
    )  # fmt: skip
    yield Budget(
        f"`swap --verify bits`, {size}: time of `load_file`, reshape, `save_file`, `sync` over it",
        ratio(LOAD, SWAP, median), 2, "x", least=True,
    )  # fmt: skip
    yield Budget(
        f"`swap --verify bits`, {size}: memory of `load_file`, reshape, `save_file` over it",
        ratio(LOAD, SWAP, _peak), 20, "x", least=True,
    )  # fmt: skip


def _memory(document: Document) -> Iterator[Budget]:
    """Yield the memory of a swap above the interpreter's own, for the files of every size."""
    sizes: dict[float, float] = {}
    for point in document.get("size", {}).get("points", []):
        sizes[point["x"]] = _peak(point["runs"][SWAP])
    if section := document.get("copying"):
        sizes[section["gigabytes"]] = _peak(section["runs"][SWAP])
    base = _peak(document["commands"]["runs"][c.IMPORTS]) if "commands" in document else None
    for size in sorted(sizes) or [2.0]:
        above = None if base is None or not sizes else (sizes[size] - base) / MEGA
        what = f"`swap --verify bits`, {size:g} GB: memory above the interpreter with its imports"
        yield Budget(what, above, 64, "MB")


def _in_place(section: Document | None) -> Budget:
    # The header, its journal and the recipe: a file system gives away whole blocks for each. Were
    # tensors written, it would be megabytes.
    written = section["runs"][c.IN_PLACE]["written_bytes"] if section else None
    size = f"{section['gigabytes']:g} GB" if section else "2 GB"
    what = f"`swap --in-place`, {size}: all that the process writes, headers and journal included"
    return Budget(what, written, 262_144, "bytes")


def _commands(section: Document | None) -> Iterator[Budget]:
    runs: Mapping[str, Document] = section["runs"] if section else {}
    count = f"{section['tensors']:,}" if section else "100,000"

    def more(one: str, other: str) -> float | None:
        return median(runs[one]) - median(runs[other]) if runs else None

    yield Budget(
        f"`scan`, sharded, {count} tensors: more than with 100", more(c.MANY, c.FEW), 1, "s"
    )
    yield Budget("`convsurgeon --help`", median(runs[c.HELP]) if runs else None, 0.2, "s")
    yield Budget(
        "`scan` of a bare file: more than `python -c pass`", more(c.BARE, c.PASS), 0.25, "s"
    )
    for name in c.HEADERS_ONLY:
        peak = _peak(runs[name]) / MEGA if runs else None
        what = name.replace("many", count).replace("one file", f"one file of {count} tensors")
        yield Budget(f"`{what.replace(',', '`,', 1)}: memory", peak, 192, "MB")


def _parsing(section: Document | None) -> Iterator[Budget]:
    size = section["bytes"] if section else 25 * MEGA
    names = sorted(name for name in section["runs"] if name != c.READ) if section else ["any"]
    for name in names:
        run = section["runs"][name] if section else None
        what = f"parsing {size / MEGA:g} MB of {name}"
        limit = 14 * size / MEGA + 64
        yield Budget(f"{what}: memory", _peak(run) / MEGA if run else None, limit, "MB")
        time = median(run) if run else None
        yield Budget(f"{what}: time", time, max(1, size / (25 * MEGA)) * 3, "s")


def _peak(run: Document) -> float:
    return float(run["peak_bytes"])


def text(rows: Sequence[Budget]) -> Iterator[str]:
    """Yield the table for a terminal."""
    head = ("what", "measured", "budget", "met")
    cells = [head, *(row.cells for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    for line in cells:
        yield "  ".join(
            cell.ljust(width) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
