"""Rows of features as maps with one row at each position, and back: functions on tensors.

A convolution of one position does to each position of a map what a linear layer does to each row.
The first axis stays the batch: `[B, S, D]` are B maps `[D, 1, S]`, which is how neural engines want
them, and `[B, D]` B maps `[D, 1, 1]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch.fx

from convsurgeon.nn.patches import check_features

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

# Leaves of a symbolic trace, as torch's own layers are: they read sizes, which a trace cannot
# follow.
for _leaf in ("to_maps", "to_rows"):
    torch.fx.wrap(_leaf)

INPUTS = ("flat", "map", "view")
"""What a convolution of one position may take and give; see `FlatConv2d`."""
_MATRIX = 2


def at_positions(
    convolve: Callable[[Tensor], Tensor], x: Tensor, channels: int, axes: int, kind: str
) -> Tensor:
    """Apply a convolution of one position to what `kind` says: one of `INPUTS`.

    Args:
        convolve: from `[B, C, *positions]` to `[B, O, *positions]`.
        x: rows `[..., C]`, or maps for "map".
        channels: C.
        axes: of positions, 1 to 3.
        kind: what `x` and the result are.

    Raises:
        RuntimeError: as a linear layer does, for a wrong number of features.
    """
    if kind == "map":
        return convolve(x)
    maps = to_maps(x, channels, axes)
    if kind == "view":
        return to_rows(convolve(maps.contiguous()).contiguous(), x)
    # As a linear layer's: what is behind it may take views of it.
    return to_rows(convolve(maps), x).contiguous()


def to_maps(x: Tensor, channels: int, axes: int) -> Tensor:
    """See rows as maps; a view, unless there are more axes of rows than a map has.

    Args:
        x: rows `[B, *positions, C]`, or one row `[C]`.
        channels: C.
        axes: of the maps, 1 to 3.

    Returns:
        `[B, C, *positions]` with `axes` positions: axes of size 1 go before those of `x`, and
        where `x` has more of them the first ones are merged. B is 1 for `[C]`.

    Raises:
        RuntimeError: as a linear layer does, for a wrong number of features.
    """
    check_features(x, channels, (1,))
    # A map without positions is refused by convolutions, a batch without maps is not. Rows of two
    # axes are not asked: their number may be one that a compiler cannot know, as after a mask.
    if x.dim() > _MATRIX and x.numel() == 0:
        return x.reshape(-1, channels, *(1,) * axes)
    if x.dim() == 1:
        x = x.unsqueeze(0)
    maps = x.movedim(-1, 1)
    if maps.dim() > axes + 2:
        maps = maps.flatten(2, maps.dim() - axes)
    while maps.dim() < axes + 2:
        maps = maps.unsqueeze(2)
    return maps


def to_rows(maps: Tensor, x: Tensor) -> Tensor:
    """See maps `[B, O, *positions]` as rows `[..., O]`, as many as `to_maps` took in `x`.

    A view where the maps are contiguous, in either order of memory.
    """
    return maps.movedim(1, -1).reshape(*x.shape[:-1], maps.shape[1])
