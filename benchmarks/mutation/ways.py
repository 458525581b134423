"""Which elements of which weights and biases are damaged: a few draws for each kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from random import Random
from typing import Any

import numpy as np
import numpy.typing as npt

from mutation.floats import FORMATS, Floats, codes, values
from mutation.kind import Parameters, Subject, Ways

Drawn = Iterator[Parameters]
SEEDS = range(1 << 30)


def each_weight(subject: Subject, _: Random) -> Drawn:
    """Yield each rewritten weight."""
    yield from ((name,) for name in subject.case.weights)


def each_layer_tensor(subject: Subject, _: Random) -> Drawn:
    """Yield each rewritten weight and each bias."""
    yield from ((name,) for name in _names(subject))


def each_bit(subject: Subject, draw: Random) -> Drawn:
    """Yield each bit of the dtype twice, in elements of weights, and some in those of biases."""
    form = FORMATS[subject.case.dtype]
    places = [(draw.choice(subject.case.weights), bit) for bit in 2 * list(range(form.bits))]
    bits = draw.sample(range(form.bits), 6)
    places += [(name, bit) for name in subject.case.biases for bit in bits]
    for name, bit in places:
        yield name, draw.randrange(count(subject, name)), bit


def count(subject: Subject, name: str) -> int:
    """Return how many elements a tensor has."""
    tensor = subject.after.tensors[name]
    return len(tensor.data) * 8 // FORMATS[tensor.dtype].bits


def where(chosen: Callable[[Floats], npt.NDArray[Any]], each: int = 2) -> Ways:
    """Draw elements of weights and biases whose numbers are chosen."""

    def ways(subject: Subject, draw: Random) -> Drawn:
        for name in _names(subject):
            dtype, _, data = subject.after.tensors[name]
            found = np.flatnonzero(chosen(values(codes(data, dtype), dtype))).tolist()
            for place in draw.sample(found, min(each, len(found))):
                yield name, place

    return ways


def any_element(subject: Subject, draw: Random) -> Drawn:
    """Draw two elements of each weight and bias."""
    return iter(where(lambda numbers: np.ones(len(numbers), bool))(subject, draw))


def any_if_infinities(subject: Subject, draw: Random) -> Drawn:
    """Draw elements where the dtype has infinities."""
    if FORMATS[subject.case.dtype].infinities:
        yield from any_element(subject, draw)


def with_one_of(ways: Ways, choices: Callable[[Subject], range], each: int = 1) -> Ways:
    """Draw one more number to each way."""

    def more(subject: Subject, draw: Random) -> Drawn:
        possible = choices(subject)
        for way in ways(subject, draw):
            for choice in draw.sample(possible, min(each, len(possible))):
                yield *way, choice

    return more


def fraction(subject: Subject) -> range:
    """Return the bits of a fraction."""
    return range(FORMATS[subject.case.dtype].fraction)


def two_in(axis: int) -> Ways:
    """Draw two different rows (axis 0) or columns (axis 1) of the matrix of a weight."""

    def ways(subject: Subject, draw: Random) -> Drawn:
        size = subject.case.linear[axis]
        if size > 1:
            for name in subject.case.weights:
                yield name, *draw.sample(range(size), 2)

    return ways


def two_axes(subject: Subject, _: Random) -> Drawn:
    """Yield every pair of axes of the conv's weight, of those that have several positions."""
    long = [axis for axis, size in enumerate(subject.case.conv) if size > 1]
    for name in subject.case.weights:
        yield from ((name, *pair) for pair in combinations(long, 2))


def each_axis(subject: Subject, _: Random) -> Drawn:
    """Yield every axis of the conv's weight that has several positions."""
    for name in subject.case.weights:
        yield from ((name, axis) for axis, size in enumerate(subject.case.conv) if size > 1)


def several(subject: Subject, _: Random) -> Drawn:
    """Yield each weight and bias of more than one element."""
    yield from ((name,) for name in _names(subject) if count(subject, name) > 1)


def two_elements(subject: Subject, draw: Random) -> Drawn:
    """Draw two different elements of each weight and bias."""
    for (name,) in several(subject, draw):
        yield name, *draw.sample(range(count(subject, str(name))), 2)


def _names(subject: Subject) -> tuple[str, ...]:
    return (*subject.case.weights, *subject.case.biases)
