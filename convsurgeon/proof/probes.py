"""One-hot probes: an input that is one at one place makes each output one weight.

All other products are zeros, so that no rounding takes part and the outputs of the two forms must
be equal exactly. With every place of a patch tried, that is the equality of the two functions: a
layer is linear in its input, and every window is treated alike, which the random inputs check.

Where all places would take too long, a spread of them is tried. An order of the axes of a patch
[C, *kernel] puts element (c, p1, p2, ...) into column c * S0 + p1 * S1 + ..., so two orders that
agree on one step along each axis have the same strides, and are one order. The spread holds these
steps: whichever order of axes a wrong weight has, one of them is off.
"""

from __future__ import annotations

from math import prod
from random import Random
from typing import TYPE_CHECKING

from convsurgeon.geometry import Geometry
from convsurgeon.proof.figures import Probes
from convsurgeon.proof.forms import Rows, apply
from convsurgeon.proof.inputs import SEED
from convsurgeon.proof.pairing import Pair

if TYPE_CHECKING:
    import torch

AFFORDABLE = 2**31
"""Multiplications per layer and form: 0.2 s on two cores, all places of a [1280, 3, 2, 14, 14]."""
_ELEMENTS = 2**20
"""Of one input; 8 MiB."""


def places(shape: tuple[int, ...], rows: int, *, exhaustive: bool = False) -> tuple[int, ...]:
    """Return at which places of a flattened patch a one is put, in rising order.

    Args:
        shape: of a patch, `[C, *kernel]`.
        rows: of the weight.
        exhaustive: whether all places are tried, whatever it takes.
    """
    count = prod(shape)
    tried = AFFORDABLE // (rows * count)
    if exhaustive or tried >= count:
        return tuple(range(count))
    steps = _steps(shape)
    others = Random(SEED).sample(range(count), min(count, max(tried - len(steps), 0)))  # noqa: S311
    return tuple(sorted(steps.union(others)))


def _steps(shape: tuple[int, ...]) -> set[int]:
    """Return the first place, one step from it along each axis, and the last along each axis."""
    strides = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
    long = [(size, stride) for size, stride in zip(shape, strides, strict=True) if size > 1]
    ends = {(size - 1) * stride for size, stride in long}
    return {0, sum(ends), *ends, *(stride for _, stride in long)}


def probe(
    pair: Pair, rows: tuple[Rows, Rows], geometry: Geometry, tried: tuple[int, ...]
) -> Probes:
    """Compare what some rows of both forms make of one-hot inputs, and of an input of zeros.

    Args:
        pair: the two forms.
        rows: of the original and of the rewritten form, in float64.
        geometry: what both are built from.
        tried: the places.
    """
    channels = prod(pair.before.shape[1:]) // geometry.window
    shape = (channels, *geometry.kernel)
    count = prod(shape)
    differing = _on_zeros(pair, rows, geometry, shape)
    for old, new in _finite(rows):
        step = max(1, _ELEMENTS // count)
        for first in range(0, len(tried), step):
            x = _one_hot(shape, tried[first : first + step], old.weight)
            y, z = apply(pair.before, old, geometry, x), apply(pair.after, new, geometry, x)
            differing += _unequal(y, z)
    return Probes(not differing, len(tried), count, differing)


def _on_zeros(
    pair: Pair, rows: tuple[Rows, Rows], geometry: Geometry, shape: tuple[int, ...]
) -> int:
    """Count the outputs on zeros that are not equal: each is the bias."""
    old, new = (Rows(r.weight.nan_to_num(0.0, 0.0, 0.0), r.bias) for r in rows)
    x = rows[0].weight.new_zeros((1, *shape))
    return _unequal(apply(pair.before, old, geometry, x), apply(pair.after, new, geometry, x))


def _finite(rows: tuple[Rows, Rows]) -> list[tuple[Rows, Rows]]:
    """Return the weights without biases; those that are not finite as a second pair, in numbers.

    Zero times infinity is NaN: one infinite weight would hide all others of its row.
    """
    parts = [(Rows(old, None), Rows(new, None)) for old, new in [_zeroed(rows)]]
    if any(not bool(r.weight.isfinite().all()) for r in rows):
        old, new = (_kinds(r.weight) for r in rows)
        parts.append((Rows(old, None), Rows(new, None)))
    return parts


def _zeroed(rows: tuple[Rows, Rows]) -> tuple[torch.Tensor, torch.Tensor]:
    old, new = (r.weight.nan_to_num(0.0, 0.0, 0.0) for r in rows)
    return old, new


def _kinds(weight: torch.Tensor) -> torch.Tensor:
    """Return 1 for infinity, 2 for minus infinity, 3 for NaN, and 0 for numbers."""
    kinds = weight.isposinf() * 1.0 + weight.isneginf() * 2.0 + weight.isnan() * 3.0
    return kinds.to(weight.dtype)


def _one_hot(shape: tuple[int, ...], tried: tuple[int, ...], like: torch.Tensor) -> torch.Tensor:
    """Return one image `[1, C, windows * k1, k2, ...]` with one place per window.

    Windows side by side make one matrix product of them; images in a batch would be one each.
    """
    import torch

    patches = like.new_zeros((len(tried), prod(shape)))
    patches[torch.arange(len(tried)), torch.tensor(tried)] = 1.0
    channels, first, *rest = shape
    image = patches.reshape(len(tried), channels, first, *rest).movedim(0, 1)
    return image.reshape(1, channels, len(tried) * first, *rest)


def _unequal(y: torch.Tensor, z: torch.Tensor) -> int:
    if y.shape != z.shape:
        return y.numel()
    same = (y == z) | (y.isnan() & z.isnan())
    return int((~same).sum())
