"""Move the elements of a tensor, as bit patterns: no float is ever looked at."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from math import prod
from typing import Final, Literal

from convsurgeon.rearrangement import Rearrangement
from convsurgeon.store import Reader

# Integers of the elements' size: assigning floats could quiet a signalling NaN, and a bool other
# than 0 or 1 would change.
_INTEGERS: Final[dict[int, Literal["B", "H", "I", "Q"]]] = {1: "B", 2: "H", 4: "I", 8: "Q"}
_BLOCK = 4 << 20


def permuted(
    reader: Reader, begin: int, itemsize: int, arrangement: Rearrangement
) -> Iterator[bytearray]:
    """Yield a tensor's bytes in their new order, in blocks of rows.

    Args:
        reader: of the file that holds it.
        begin: its first byte.
        itemsize: bytes of an element.
        arrangement: how the elements move. Where its first axis stays in place, memory is bounded
            by a few mebibytes or one row; otherwise the tensor is one block.
    """
    rows = arrangement.split[0] if arrangement.axes[0] == 0 else 1
    row_bytes = prod(arrangement.split) // rows * itemsize
    step = max(1, _BLOCK // row_bytes)
    for first in range(0, rows, step):
        count = min(step, rows - first)
        start = begin + first * row_bytes
        block = reader.read(start, start + count * row_bytes)
        split = (arrangement.split[0] * count // rows, *arrangement.split[1:])
        part = Rearrangement(split, split, arrangement.axes, split)
        yield permute(block, itemsize, part)


def permute(block: bytes | bytearray, itemsize: int, arrangement: Rearrangement) -> bytearray:
    """Return the elements of `block` in their new order.

    The longest axis is moved by strided slices, which run at memory speed; the others are looped
    over.
    """
    split, axes = arrangement.merged()
    result = bytearray(len(block))
    if not split:
        result[:] = block
        return result
    source = memoryview(block).cast(_INTEGERS[itemsize])
    target = memoryview(result).cast(_INTEGERS[itemsize])
    source_steps = _steps(split)
    permuted_steps = _steps(tuple(split[axis] for axis in axes))
    target_steps = [permuted_steps[axes.index(axis)] for axis in range(len(split))]
    long = max(range(len(split)), key=split.__getitem__)
    others = [axis for axis in range(len(split)) if axis != long]
    n, a, b = split[long], source_steps[long], target_steps[long]
    for index in product(*(range(split[axis]) for axis in others)):
        i = sum(k * source_steps[axis] for k, axis in zip(index, others, strict=True))
        j = sum(k * target_steps[axis] for k, axis in zip(index, others, strict=True))
        target[j : j + (n - 1) * b + 1 : b] = source[i : i + (n - 1) * a + 1 : a]
    return result


def _steps(shape: tuple[int, ...]) -> list[int]:
    """Return how many elements apart neighbours along each axis are."""
    return [prod(shape[axis + 1 :]) for axis in range(len(shape))]
