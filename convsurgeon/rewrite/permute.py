"""Move the elements of a tensor, as bit patterns: no float is ever looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import Final, Literal

from convsurgeon.rearrangement import Rearrangement
from convsurgeon.store import Reader

# Integers of the elements' size: assigning floats could quiet a signalling NaN, and a bool other
# than 0 or 1 would change.
_INTEGERS: Final[dict[int, Literal["B", "H", "I", "Q"]]] = {1: "B", 2: "H", 4: "I", 8: "Q"}
BLOCK = 4 << 20
"""Bytes that are moved at a time; as many are read for them."""
_LONG = 128
"""Elements from which on the start of a slice no longer counts beside its elements."""
_TILE = 512
"""Elements of a slice at most: the cache lines that they lie in are still there for the next."""


def permuted(
    reader: Reader, begin: int, itemsize: int, arrangement: Rearrangement
) -> Iterator[bytearray]:
    """Yield a tensor's bytes in their new order, a few mebibytes at a time.

    Args:
        reader: of the file that holds it.
        begin: its first byte.
        itemsize: bytes of an element.
        arrangement: how the elements move.
    """
    shape, axes = arrangement.merged()
    for start, size in _boxes(shape, axes, itemsize):
        block = _gathered(reader, begin, itemsize, shape, (start, size))
        yield _moved(block, itemsize, size, axes)


def permute(block: bytes | bytearray, itemsize: int, arrangement: Rearrangement) -> bytearray:
    """Return the elements of `block` in their new order."""
    return _moved(block, itemsize, *arrangement.merged())


def _boxes(
    shape: Sequence[int], axes: Sequence[int], itemsize: int
) -> Iterator[tuple[list[int], list[int]]]:
    """Cut a tensor into boxes, first corner and size, which follow one another in the new order."""
    inner, whole = itemsize, len(axes)
    while whole and inner * shape[axes[whole - 1]] <= BLOCK:
        whole -= 1
        inner *= shape[axes[whole]]
    if not whole:
        yield [0] * len(shape), list(shape)
        return
    cut, step = axes[whole - 1], max(1, BLOCK // inner)
    for index in product(*(range(shape[axis]) for axis in axes[: whole - 1])):
        start, size = [0] * len(shape), list(shape)
        for axis, place in zip(axes, index, strict=False):
            start[axis], size[axis] = place, 1
        for first in range(0, shape[cut], step):
            start[cut], size[cut] = first, min(step, shape[cut] - first)
            yield start, size


def _gathered(
    reader: Reader,
    begin: int,
    itemsize: int,
    shape: Sequence[int],
    box: tuple[Sequence[int], Sequence[int]],
) -> bytearray:
    """Read a box: every run of neighbours in it, one after another."""
    start, size = box
    steps = _steps(shape)
    last = len(shape) - 1
    while last > 0 and size[last] == shape[last]:
        last -= 1
    run = prod(size[last:]) * itemsize
    first = sum(place * step for place, step in zip(start, steps, strict=True))
    places = _places(size[:last], steps[:last])
    block = bytearray(prod(size) * itemsize)
    view = memoryview(block)
    for number, place in enumerate(places):
        reader.fill(view[number * run : (number + 1) * run], begin + (first + place) * itemsize)
    return block


def _moved(
    block: bytes | bytearray, itemsize: int, shape: Sequence[int], axes: Sequence[int]
) -> bytearray:
    """Return the elements of a box in their new order.

    One axis is moved by strided slices, the others are looped over.
    """
    result = bytearray(len(block))
    if not shape:
        result[:] = block
        return result
    source = memoryview(block).cast(_INTEGERS[itemsize])
    target = memoryview(result).cast(_INTEGERS[itemsize])
    reads, moved = _steps(shape), _steps([shape[axis] for axis in axes])
    writes = [moved[axes.index(axis)] for axis in range(len(shape))]
    enough = min(_LONG, max(shape))
    long = min(
        (axis for axis in range(len(shape)) if shape[axis] >= enough),
        key=lambda axis: reads[axis] + writes[axis],
    )
    others = [axis for axis in range(len(shape)) if axis != long]
    sizes = [shape[axis] for axis in others]
    here = _places(sizes, [reads[axis] for axis in others])
    there = _places(sizes, [writes[axis] for axis in others])
    a, b = reads[long], writes[long]
    for first in range(0, shape[long], _TILE):
        count = min(_TILE, shape[long] - first)
        to, goal = (first + count - 1) * a + 1, (first + count - 1) * b + 1
        for i, j in zip(here, there, strict=True):
            target[first * b + j : goal + j : b] = source[first * a + i : to + i : a]
    return result


def _places(shape: Sequence[int], steps: Sequence[int]) -> list[int]:
    """Return where each index of a shape lies, in row-major order, in elements."""
    places = [0]
    for size, step in zip(shape, steps, strict=True):
        places = [place + index * step for place in places for index in range(size)]
    return places


def _steps(shape: Sequence[int]) -> list[int]:
    """Return how many elements apart neighbours along each axis are."""
    return [prod(shape[axis + 1 :]) for axis in range(len(shape))]
