"""Rearrangements against numpy, on arrays whose elements name their own places."""

from __future__ import annotations

from math import prod

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsurgeon.rearrangement import (
    CHANNEL_FIRST,
    CHANNEL_LAST,
    LAYOUTS,
    Rearrangement,
    between,
    flatten_patches,
)
from tests.strategies import conv_shapes, counted


def applied(r: Rearrangement, array: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    assert array.shape == r.source
    return array.reshape(r.split).transpose(r.axes).reshape(r.target)


@st.composite
def rearrangements(draw: st.DrawFn, *, zeros: bool = True) -> Rearrangement:
    low = 0 if zeros else 1
    split = tuple(draw(st.lists(st.integers(low, 4), max_size=5)))
    axes = tuple(draw(st.permutations(range(len(split)))))
    permuted = tuple(split[axis] for axis in axes)
    return Rearrangement(draw(grouped(split)), split, axes, draw(grouped(permuted)))


@st.composite
def grouped(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Neighbouring axes taken together, and ones put in."""
    target: list[int] = []
    for size in shape:
        if draw(st.booleans()) and target:
            target[-1] *= size
        else:
            target.append(size)
    if draw(st.booleans()):
        target.insert(draw(st.integers(0, len(target))), 1)
    return tuple(target)


PATCHES = [
    ((2, 3, 2), CHANNEL_FIRST, [0, 1, 2, 3, 4, 5]),
    ((2, 3, 2), CHANNEL_LAST, [0, 2, 4, 1, 3, 5]),
    ((1, 2, 2, 2), CHANNEL_LAST, [0, 4, 1, 5, 2, 6, 3, 7]),
    ((1, 2, 2, 1, 2), CHANNEL_LAST, [0, 4, 1, 5, 2, 6, 3, 7]),
    ((1, 1, 2, 2), CHANNEL_LAST, [0, 1, 2, 3]),
    ((1, 3, 1, 1), CHANNEL_LAST, [0, 1, 2]),
]


@pytest.mark.parametrize(("shape", "layout", "first_row"), PATCHES)
def test_golden_patches(shape: tuple[int, ...], layout: str, first_row: list[int]) -> None:
    r = flatten_patches(shape, layout)
    assert r.target == (shape[0], prod(shape[1:]))
    assert applied(r, counted(shape))[0].tolist() == first_row
    assert r.moves_bytes is (first_row != sorted(first_row))


@given(conv_shapes(), st.sampled_from(LAYOUTS))
def test_patches_are_flattened_as_the_layout_says(shape: tuple[int, ...], layout: str) -> None:
    weight = counted(shape)
    channel_last = np.moveaxis(weight, 1, -1)
    expected = (weight if layout == CHANNEL_FIRST else channel_last).reshape(shape[0], -1)
    assert np.array_equal(applied(flatten_patches(shape, layout), weight), expected)


@given(conv_shapes(), st.sampled_from(LAYOUTS))
def test_between_works_both_ways(shape: tuple[int, ...], layout: str) -> None:
    matrix = (shape[0], prod(shape[1:]))
    there, back = between(shape, matrix, layout), between(matrix, shape, layout)
    assert there == flatten_patches(shape, layout)
    assert np.array_equal(applied(back, applied(there, counted(shape))), counted(shape))


@given(rearrangements())
def test_inverse(r: Rearrangement) -> None:
    assert np.array_equal(applied(r.inverse(), applied(r, counted(r.source))), counted(r.source))
    assert r.inverse().inverse() == r


@given(rearrangements())
def test_moves_bytes_exactly_where_an_element_moves(r: Rearrangement) -> None:
    moved = applied(r, counted(r.source)).ravel().tolist() != list(range(prod(r.source)))
    assert r.moves_bytes is moved
    assert r.inverse().moves_bytes is moved


@given(rearrangements(zeros=False), st.data())
def test_composition(first: Rearrangement, data: st.DataObject) -> None:
    axes = tuple(data.draw(st.permutations(range(len(first.target)))))
    split = first.target
    target = tuple(split[axis] for axis in axes)
    second = Rearrangement(first.target, split, axes, data.draw(grouped(target)))
    both = first.then(second)
    expected = applied(second, applied(first, counted(first.source)))
    assert np.array_equal(applied(both, counted(first.source)), expected)


@given(conv_shapes(), st.sampled_from(LAYOUTS), st.sampled_from(LAYOUTS))
def test_changing_the_layout_is_one_composition(shape: tuple[int, ...], old: str, new: str) -> None:
    change = flatten_patches(shape, old).inverse().then(flatten_patches(shape, new))
    matrix = applied(flatten_patches(shape, old), counted(shape))
    assert np.array_equal(
        applied(change, matrix), applied(flatten_patches(shape, new), counted(shape))
    )
    if old == new:
        assert not change.moves_bytes


@given(rearrangements(zeros=False))
def test_composition_with_the_inverse_moves_nothing(r: Rearrangement) -> None:
    there_and_back = r.then(r.inverse())
    assert (there_and_back.source, there_and_back.target) == (r.source, r.source)
    assert not there_and_back.moves_bytes


@pytest.mark.parametrize(
    ("source", "split", "axes", "target"),
    [
        ((4,), (2, 3), (0, 1), (4,)),
        ((4,), (2, 2), (0, 1), (5,)),
        ((5,), (2, 2), (0, 1), (4,)),
        ((4,), (2, 2), (0, 0), (4,)),
        ((4,), (2, 2), (0,), (4,)),
        ((4,), (2, 2), (0, 1, 2), (4,)),
        ((4,), (2, 2), (1, -1), (4,)),
    ],
)
def test_a_rearrangement_that_loses_elements_cannot_be_built(
    source: tuple[int, ...], split: tuple[int, ...], axes: tuple[int, ...], target: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="loses or repeats"):
        Rearrangement(source, split, axes, target)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ((2, 3), (2, 3)),
        ((2, 3, 1), (2, 3, 1)),
        ((2, 3, 2, 2), (2, 13)),
        ((2, 3, 2, 2), (3, 8)),
        ((2, 12), (2, 3, 2, 3)),
        ((), (2, 3)),
        ((6,), (2, 3)),
        ((2, 3), (6,)),
    ],
)
def test_between_refuses_what_is_no_such_pair(
    source: tuple[int, ...], target: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"are not a conv weight|does not flatten|unpack"):
        between(source, target, CHANNEL_FIRST)


def test_then_refuses_what_does_not_follow() -> None:
    first = flatten_patches((2, 3, 2), CHANNEL_FIRST)
    with pytest.raises(ValueError, match="does not follow"):
        first.then(first)


def test_then_refuses_axes_without_a_common_refinement() -> None:
    first = Rearrangement((6,), (2, 3), (1, 0), (6,))
    second = Rearrangement((6,), (2, 3), (1, 0), (6,))
    with pytest.raises(ValueError, match="no common refinement"):
        first.then(second)
