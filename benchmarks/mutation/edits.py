"""What is done to the elements of a tensor: integers in, integers out, shape and dtype kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mutation.cases import fresh, from_conv, to_conv
from mutation.floats import FORMATS, Codes, codes
from mutation.kind import Subject

Edit = Callable[..., Codes]
"""Takes the subject, the elements as stored, and what else was drawn; returns others."""


def in_conv_axes(edit: Callable[..., Codes]) -> Edit:
    """Let an edit see `[O, C, *kernel]`, whatever form is stored; it may return other axes."""

    def whole(subject: Subject, elements: Codes, *others: Any) -> Codes:
        if elements.ndim > 2:
            return edit(elements, *others).reshape(elements.shape)
        found = edit(to_conv(elements, subject.case), *others).reshape(subject.case.conv)
        return from_conv(found, subject.case)

    return whole


def in_matrix(edit: Callable[..., Codes]) -> Edit:
    """Let an edit see rows and columns, whatever form is stored."""

    def whole(_: Subject, elements: Codes, *others: Any) -> Codes:
        return edit(elements.reshape(len(elements), -1), *others).reshape(elements.shape)

    return whole


def in_place(edit: Callable[..., object]) -> Edit:
    """Let an edit write into the elements in a row."""

    def whole(subject: Subject, elements: Codes, *others: Any) -> Codes:
        flat = elements.reshape(-1)
        edit(subject, flat, *others)
        return flat.reshape(elements.shape)

    return whole


def becomes(code: Callable[[str], int]) -> Edit:
    """Set an element, or all of them, to a code that depends on the dtype."""

    def edit(subject: Subject, flat: Codes, *places: int) -> None:
        flat[list(places) or slice(None)] = code(subject.case.dtype)

    return in_place(edit)


def nan(dtype: str) -> int:
    """Return the code of a quiet NaN."""
    form = FORMATS[dtype]
    if form.infinities:
        return form.infinity + (1 << form.fraction - 1)
    return form.sign if dtype.endswith("FNUZ") else form.sign - 1


def flip(_: Subject, flat: Codes, place: int, bit: int) -> None:
    """Flip a bit of an element."""
    flat[place : place + 1] ^= flat.dtype.type(1 << bit)


def turn_sign(subject: Subject, flat: Codes, *places: int) -> None:
    """Flip the sign of an element, or of all."""
    flat[list(places) or slice(None)] ^= flat.dtype.type(FORMATS[subject.case.dtype].sign)


def step(_: Subject, flat: Codes, place: int, by: int) -> None:
    """Replace an element by one of its neighbours."""
    flat[place : place + 1] += flat.dtype.type(by % (1 << 8 * flat.itemsize))


def all_up(_: Subject, flat: Codes) -> None:
    """Replace every element by its neighbour away from zero."""
    flat += flat.dtype.type(1)


def coarser(_: Subject, flat: Codes, bits: int) -> None:
    """Cut off last bits, as a cast to a shorter dtype and back does."""
    flat &= flat.dtype.type((1 << 8 * flat.itemsize) - (2 << bits))


def shifted(_: Subject, flat: Codes) -> None:
    """Move every element one place on."""
    flat[:] = np.roll(flat, 1)


def turned(_: Subject, flat: Codes) -> None:
    """Reverse the elements."""
    flat[:] = flat[::-1].copy()


def exchanged(elements: Codes, one: int, other: int) -> Codes:
    """Exchange two entries of the first axis."""
    elements[[one, other]] = elements[[other, one]]
    return elements


def copied(elements: Codes, one: int, other: int) -> Codes:
    """Write one entry of the first axis over another."""
    elements[other] = elements[one]
    return elements


def channels_permuted(elements: Codes, seed: int) -> Codes:
    """Permute the channels of `[O, C, *kernel]`."""
    return elements[:, np.random.default_rng(seed).permutation(elements.shape[1])]


def other_layout(subject: Subject, elements: Codes) -> Codes:
    """Return what the same weight is in the other layout, or misread from it."""
    out, channels, *kernel = subject.case.conv
    last = subject.case.layout == "p1 p2 c"
    if elements.ndim == 2:
        weight = to_conv(elements, subject.case)
        return (weight if last else np.moveaxis(weight, 1, -1)).reshape(elements.shape)
    matrix = from_conv(elements, subject.case)
    if last:
        return matrix.reshape(elements.shape)
    return np.moveaxis(matrix.reshape(out, *kernel, channels), -1, 1)


def of_another_training(subject: Subject, elements: Codes, seed: int) -> Codes:
    """Return other elements of the same kind."""
    other = fresh(subject.case, elements.shape, np.random.default_rng(seed))
    return codes(other.data, other.dtype).reshape(elements.shape)
