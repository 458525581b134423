"""What both forms are run on: which sizes, values and memory formats, and why each."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from convsurgeon.geometry import Geometry
from convsurgeon.proof.figures import Input

if TYPE_CHECKING:
    import torch

SEED = 20_260_101
GRID = 3
"""Which of `layer_inputs` has several windows on each axis of two images."""


def layer_inputs(channels: int, geometry: Geometry) -> tuple[Input, ...]:
    """Return the inputs of one layer.

    One window, unbatched; no image at all (batch 0); one image; several windows, differently many
    per axis, so that exchanged axes show; sizes that the kernel does not divide, by one and by all
    but one, where a conv floors; one long axis. Each memory format that reaches a layer in practice
    is among them, and one input in which no two elements are equal.
    """
    k, s = geometry.kernel, geometry.stride

    def size(axis: int, windows: int, rest: int = 0) -> int:
        # A rest of a whole stride would be one more window.
        return k[axis] + (windows - 1) * s[axis] + min(rest, s[axis] - 1)

    axes = range(geometry.ndim)
    one = tuple(size(a, 1) for a in axes)
    grid = tuple(size(a, 2 + a) for a in axes)
    little_over = tuple(size(a, 2, 1) for a in axes)
    nearly = tuple(size(a, 1 + a, k[a] - 1) for a in axes)
    long = tuple(size(a, 5 if a == 0 else 1) for a in axes)
    return (
        Input((channels, *one)),
        Input((0, channels, *one)),
        Input((1, channels, *one)),
        Input((2, channels, *grid)),
        Input((1, channels, *little_over), memory="channels last"),
        Input((2, channels, *nearly), memory="strided"),
        Input((3, channels, *long)),
        Input((1, channels, *grid), values="index"),
    )


def tensor_of(given: Input, generator: torch.Generator) -> torch.Tensor:
    """Make an input in float64.

    Args:
        given: what it is to be.
        generator: of the random values.
    """
    import torch

    if given.values == "index":
        x = torch.arange(1.0, prod(given.shape) + 1, dtype=torch.float64).reshape(given.shape)
    else:
        x = torch.randn(given.shape, dtype=torch.float64, generator=generator)
    if given.memory == "channels last":
        return x.movedim(1, -1).contiguous().movedim(-1, 1)
    if given.memory == "strided":
        wide = x.new_zeros((*given.shape[:-1], 2 * given.shape[-1]))
        wide[..., ::2] = x
        return wide[..., ::2]
    return x
