"""Bits: every element of a rewritten weight, streamed, without torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from math import prod

from convsurgeon.dtypes import itemsize
from convsurgeon.header import TensorInfo
from convsurgeon.proof.figures import Bits
from convsurgeon.proof.order import CHANNEL_FIRST, Rows, forward
from convsurgeon.proof.pairing import Pair
from convsurgeon.store import Reader

_BLOCK = 1 << 20


def row_blocks(tensor: TensorInfo, row_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of the data that hold whole rows, and a mebibyte or one row at most."""
    step = max(1, _BLOCK // row_bytes) * row_bytes
    for begin in range(tensor.begin, tensor.end, step):
        yield begin, min(begin + step, tensor.end)


def compare_bits(
    pair: Pair, before: tuple[Reader, TensorInfo], after: tuple[Reader, TensorInfo]
) -> Bits:
    """Compare a weight with its rewritten form, element by element.

    The recorded digest of the original, if there is one, is checked on the way: `restore` relies
    on it.

    Args:
        pair: the two forms.
        before: reader and tensor of the original.
        after: reader and tensor of the rewritten file.
    """
    (old_reader, old), (new_reader, new) = before, after
    elements = prod(old.shape)
    wrong = _wrong_header(pair, old, new)
    if wrong:
        return Bits(equal=False, elements=elements, differing=elements, note=wrong)
    size = itemsize(old.dtype)
    digest = hashlib.sha256()
    differing, first = 0, -1
    given, found = bytearray(0), bytearray(0)
    for begin, end in row_blocks(old, _unit(pair, old, size)):
        if len(given) != end - begin:  # reading into memory that is there is several times faster
            given, found = bytearray(end - begin), bytearray(end - begin)
        old_reader.fill(memoryview(given), begin)
        digest.update(given)
        rows = _after(given, pair, size)
        new_reader.fill(memoryview(found), begin + new.begin - old.begin)
        if rows != found:
            places = _places(rows, found, size)
            first = (begin - old.begin + places[0]) // size if first < 0 else first
            differing += len(places)
    sha256, note = digest.hexdigest(), ""
    if differing:
        note = f"{differing} of {elements} elements differ, the first is number {first}"
    elif pair.steps[0].sha256 not in ("", sha256):
        note = "the recipe's digest is not that of the original"
    return Bits(not note, elements, differing, note, sha256)


def _after(rows: Rows, pair: Pair, size: int) -> Rows:
    """Return rows as they have to stand after all steps."""
    for step in pair.steps:
        rows = forward(rows, step, size)
    return rows


def _unit(pair: Pair, tensor: TensorInfo, size: int) -> int:
    """Return the bytes that stay together: a row, or an element where none changes its place."""
    in_order = all(step.layout == CHANNEL_FIRST for step in pair.steps)
    return size if in_order else tensor.nbytes // tensor.shape[0]


def _places(rows: Rows, found: Rows, size: int) -> list[int]:
    """Return where the elements of two pieces differ, as offsets in bytes."""
    return [i for i in range(0, len(rows), size) if rows[i : i + size] != found[i : i + size]]


def _wrong_header(pair: Pair, old: TensorInfo, new: TensorInfo) -> str:
    if old.dtype != new.dtype:
        return f"dtype {old.dtype} became {new.dtype}"
    for name, tensor, side in (("original", old, pair.before), ("rewritten", new, pair.after)):
        if tensor.shape != side.shape:
            return f"the {name} shape is {list(tensor.shape)}, expected {list(side.shape)}"
    return ""
