"""Rearrangements of a weight's elements: reshape, permute, reshape.

Known without any tensor, invertible and composable. The idea of working the numbers out before any
data arrives is that of einops (https://einops.rocks); the two layouts are written in its notation.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from math import prod
from operator import mul

CHANNEL_FIRST = "c p1 p2"
CHANNEL_LAST = "p1 p2 c"
LAYOUTS = (CHANNEL_FIRST, CHANNEL_LAST)
"""The order in which a patch is flattened: what a conv weight reshapes to, and channels last.

One spelling serves every number of spatial axes: for three, `t` stands in front of `p1`.
"""


@dataclass(frozen=True, slots=True)
class Rearrangement:
    """Reshape `source` to `split`, permute its axes, reshape to `target`.

    Attributes:
        source: shape before.
        split: the same elements, with every axis that moves apart on its own.
        axes: `axes[i]` is the axis of `split` that becomes axis `i`.
        target: shape after.
    """

    source: tuple[int, ...]
    split: tuple[int, ...]
    axes: tuple[int, ...]
    target: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check that no element is lost.

        Raises:
            ValueError: if the sizes or axes do not fit together.
        """
        sizes = {prod(self.source), prod(self.split), prod(self.target)}
        if len(sizes) != 1 or sorted(self.axes) != list(range(len(self.split))):
            raise ValueError(f"{self} loses or repeats elements")

    @property
    def moves_bytes(self) -> bool:
        """Whether any element changes its place; a mere reshape moves none."""
        if not prod(self.split):
            return False
        moving = [axis for axis in self.axes if self.split[axis] != 1]
        return moving != sorted(moving)

    def merged(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return (split, axes) of the same permutation with the fewest axes.

        Axes of size 1 are dropped, axes that stay together become one.
        """
        kept = [axis for axis in self.axes if self.split[axis] != 1]
        runs: list[list[int]] = []
        order = sorted(kept)
        for axis in kept:
            follows = runs and order.index(axis) == order.index(runs[-1][-1]) + 1
            runs[-1].append(axis) if follows else runs.append([axis])
        by_source = sorted(runs)
        split = tuple(prod(self.split[axis] for axis in run) for run in by_source)
        return split, tuple(by_source.index(run) for run in runs)

    def inverse(self) -> Rearrangement:
        """Return the rearrangement that undoes this one."""
        permuted = tuple(self.split[axis] for axis in self.axes)
        back = tuple(self.axes.index(i) for i in range(len(self.axes)))
        return Rearrangement(self.target, permuted, back, self.source)

    def then(self, after: Rearrangement) -> Rearrangement:
        """Return one rearrangement that does this one and `after` it.

        Raises:
            ValueError: if `after` does not begin with this one's target, or cuts an axis in a way
                that no common refinement allows (which the rules of this package never do).
        """
        if self.target != after.source:
            raise ValueError(f"{after} does not follow {self}")
        permuted = tuple(self.split[axis] for axis in self.axes)
        common = _refinement(permuted, after.split)
        mine = _groups(permuted, common)  # refined axes of each of my permuted axes
        theirs = _groups(after.split, common)
        order = [i for axis in after.axes for i in theirs[axis]]
        before = [i for axis in range(len(self.split)) for i in mine[self.axes.index(axis)]]
        split = tuple(common[i] for i in before)
        axes = tuple(before.index(i) for i in order)
        return Rearrangement(self.source, split, axes, after.target)


def unmoved(shape: tuple[int, ...]) -> Rearrangement:
    """Return the rearrangement of a tensor that stays as it is."""
    return Rearrangement(shape, shape, tuple(range(len(shape))), shape)


def flatten_patches(shape: tuple[int, ...], layout: str) -> Rearrangement:
    """Return the rearrangement of a conv weight `[O, C, *kernel]` into `[O, C * prod(kernel)]`."""
    first, *rest = range(len(shape))
    channel, *window = rest
    axes = (first, channel, *window) if layout == CHANNEL_FIRST else (first, *window, channel)
    return Rearrangement(shape, shape, axes, (shape[0], prod(shape[1:])))


def between(source: tuple[int, ...], target: tuple[int, ...], layout: str) -> Rearrangement:
    """Return the rearrangement between a conv weight and a linear one, whichever comes first.

    Raises:
        ValueError: if not exactly one side has two dimensions, or the sizes differ.
    """
    if (len(source) == 2) == (len(target) == 2):
        raise ValueError(f"{source} and {target} are not a conv weight and a linear one")
    if len(source) == 2:
        return between(target, source, layout).inverse()
    arrangement = flatten_patches(source, layout)
    if arrangement.target != target:
        raise ValueError(f"{source} does not flatten to {target}")
    return arrangement


def _refinement(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    """Return the coarsest shape that both shapes are groupings of."""
    cuts = sorted({*accumulate(first, mul), *accumulate(second, mul)} - {1})
    edges = [1, *cuts]
    pairs = list(pairwise(edges))
    if any(not low or high % low for low, high in pairs):
        raise ValueError(f"{first} and {second} have no common refinement")
    return tuple(high // low for low, high in pairs)


def _groups(shape: tuple[int, ...], refined: tuple[int, ...]) -> list[list[int]]:
    """Return for each axis of `shape` the axes of `refined` that make it up."""
    groups: list[list[int]] = []
    place = 0
    for size in shape:
        group: list[int] = []
        while prod(refined[i] for i in group) != size:
            group.append(place)
            place += 1
        groups.append(group)
    return groups
