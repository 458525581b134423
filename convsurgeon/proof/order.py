"""The order of elements on either side, by index arithmetic of its own."""

from __future__ import annotations

from math import prod
from typing import Final, Literal

from convsurgeon.plan import Step

# Compared and moved as integers: two NaNs of equal bits are equal here, and no bit is touched.
_CODES: Final[dict[int, Literal["B", "H", "I", "Q"]]] = {1: "B", 2: "H", 4: "I", 8: "Q"}


def conv_columns(channels: int, window: int, layout: str) -> list[int]:
    """Return for each column of the linear weight its index in a row of the conv weight.

    A row of the conv weight is `[C, *kernel]` in row-major order: element (c, p), with p counting
    the window's positions, is at `c * window + p`. The linear weight has (c, p) at the same place
    under "c p1 p2", and at `p * C + c` under "p1 p2 c".
    """
    if layout == "c p1 p2":
        return list(range(channels * window))
    if layout == "p1 p2 c":
        return [c * window + p for p in range(window) for c in range(channels)]
    raise ValueError(f"unknown layout {layout!r}")


def forward(rows: bytes, step: Step, itemsize: int) -> bytes:
    """Return the rows of a weight before a step as they have to stand after it."""
    return _place(rows, step, itemsize, to_linear=len(step.target_shape) == 2)


def backward(rows: bytes, step: Step, itemsize: int) -> bytes:
    """Return the rows of a weight after a step as they stood before it."""
    return _place(rows, step, itemsize, to_linear=len(step.source_shape) == 2)


def _place(rows: bytes, step: Step, itemsize: int, *, to_linear: bool) -> bytes:
    conv = max(step.source_shape, step.target_shape, key=len)
    columns = conv_columns(conv[1], prod(conv[2:]), step.layout)
    width = len(columns)
    if columns == list(range(width)):
        return rows
    given = memoryview(rows).cast(_CODES[itemsize])
    placed = bytearray(len(rows))
    view = memoryview(placed).cast(_CODES[itemsize])
    for column, index in enumerate(columns):
        if to_linear:
            view[column::width] = given[index::width]
        else:
            view[index::width] = given[column::width]
    return bytes(placed)
