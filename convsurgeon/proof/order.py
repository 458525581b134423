"""The order of elements on either side, by index arithmetic of its own."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Final, Literal

from convsurgeon.plan import Step

# Compared and moved as integers: two NaNs of equal bits are equal here, and no bit is touched.
_CODES: Final[dict[int, Literal["B", "H", "I", "Q"]]] = {1: "B", 2: "H", 4: "I", 8: "Q"}

CHANNEL_FIRST, CHANNEL_LAST = "c p1 p2", "p1 p2 c"
Rows = bytes | bytearray
"""Whole rows of a weight."""


def runs(channels: int, window: int, layout: str) -> Iterator[tuple[slice, slice]]:
    """Yield where the elements of a row stand in the conv weight, and where in the linear one.

    A row of the conv weight is `[C, *kernel]` in row-major order: element (c, p), with p counting
    the window's positions, is at `c * window + p`. The linear weight has (c, p) at the same place
    under "c p1 p2", and at `p * C + c` under "p1 p2 c".
    """
    width = channels * window
    if layout == CHANNEL_FIRST:
        yield slice(0, width), slice(0, width)
    elif layout == CHANNEL_LAST:
        for c in range(channels):
            yield slice(c * window, (c + 1) * window), slice(c, width, channels)
    else:
        raise ValueError(f"unknown layout {layout!r}")


def forward(rows: Rows, step: Step, itemsize: int) -> Rows:
    """Return the rows of a weight before a step as they have to stand after it."""
    return _place(rows, step, itemsize, to_linear=len(step.target_shape) == 2)


def backward(rows: Rows, step: Step, itemsize: int) -> Rows:
    """Return the rows of a weight after a step as they stood before it."""
    return _place(rows, step, itemsize, to_linear=len(step.source_shape) == 2)


def _place(rows: Rows, step: Step, itemsize: int, *, to_linear: bool) -> Rows:
    conv = max(step.source_shape, step.target_shape, key=len)
    row = range(prod(conv[1:]))
    pairs = [(row[i], row[j]) for i, j in runs(conv[1], prod(conv[2:]), step.layout)]
    if all(i == j for i, j in pairs):
        return rows
    if not to_linear:
        pairs = [(j, i) for i, j in pairs]
    given = memoryview(rows).cast(_CODES[itemsize])
    placed = bytearray(len(rows))
    view = memoryview(placed).cast(_CODES[itemsize])
    if len(given) // len(row) >= len(pairs[0][0]):
        _by_columns(given, view, pairs, len(row))
    else:
        _by_rows(given, view, pairs, len(row))
    return placed


def _by_columns(
    given: memoryview, view: memoryview, pairs: list[tuple[range, range]], width: int
) -> None:
    """Move one element of each row at a time: there are more rows than elements in a run."""
    for here, there in pairs:
        for i, j in zip(here, there, strict=True):
            view[j::width] = given[i::width]


def _by_rows(
    given: memoryview, view: memoryview, pairs: list[tuple[range, range]], width: int
) -> None:
    """Move one run of one row at a time."""
    for row in range(0, len(given), width):
        for i, j in pairs:
            run = given[row + i.start : row + i.stop : i.step]
            view[row + j.start : row + j.stop : j.step] = run
