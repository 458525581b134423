"""Cutting maps into patches and back: pure functions on tensors, without parameters.

A convolution whose stride equals its kernel reads every element of its (cropped) input exactly
once. Its windows are therefore a mere rearrangement of the input:

    [B, C, H, W] -> windows [B, C, gh, gw, kh, kw]
                 -> permute [B, gh, gw, C, kh, kw] -> merge [B, gh*gw, C*kh*kw]

Every step but the last is a view, and the last one copies at most once. No step depends on a value,
and a size takes part in a condition only to refuse inputs smaller than the kernel, as a
convolution does: so `torch.compile(fullgraph=True)` and `torch.export` with dynamic sizes accept
all of it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from convsurgeon.rearrangement import CHANNEL_FIRST, CHANNEL_LAST, LAYOUTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

MAX_DIMS = 3
# A copy goes along its target's last axis, in loops as long as the kernel's last axis. Up to this
# length starting the loops costs a CPU more than the copy: at 2, four to seven times as much.
_SHORT = 4
_FLOAT = 4  # bytes


def check_layout(layout: str) -> None:
    """Refuse a layout that is none of the two.

    Raises:
        ValueError: `layout` is neither "c p1 p2" nor "p1 p2 c".
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {LAYOUTS}, not {layout!r}")


def check_features(rows: Tensor, in_channels: int, kernel: Sequence[int]) -> None:
    """Refuse rows `[..., C * prod(kernel)]` of another length.

    Raises:
        RuntimeError: as a linear layer does, for a wrong number of features.
    """
    features = in_channels * math.prod(kernel)
    # Without this check a reshape would accept rows of twice the length as twice the rows.
    if rows.dim() == 0 or rows.shape[-1] != features:
        raise RuntimeError(
            f"expected rows of {features} features, but got an input of size {list(rows.shape)}"
        )


def patchify(x: Tensor, kernel: Sequence[int], order: str = CHANNEL_FIRST) -> Tensor:
    """Cut a batch of maps into patches that do not overlap, one flattened patch per grid point.

    A remainder that the kernel does not divide is cropped at the end of each axis, as a
    convolution without padding floors its output size.

    Args:
        x: `[B, C, *spatial]`, in any memory format.
        kernel: patch size per spatial axis, of length 1 to 3.
        order: "c p1 p2" flattens a patch channel first, as a convolution's weight reshapes;
            "p1 p2 c" channel last. In 3-D they stand for "c t p1 p2" and "t p1 p2 c", and so on.

    Returns:
        Tokens `[B, *grid, C * prod(kernel)]`, `grid[i] = spatial[i] // kernel[i]`; contiguous,
        or a view where patches lie in order already or the kernel is 1 in "c p1 p2".

    Raises:
        ValueError: the order is unknown, or `x` has not `len(kernel) + 2` axes.
        RuntimeError: an axis of `x` is smaller than the kernel.
    """
    check_layout(order)
    dims = len(kernel)
    if not 1 <= dims <= MAX_DIMS or x.dim() != dims + 2:
        raise ValueError(f"cannot cut {x.dim()} axes [B, C, *spatial] by a kernel {tuple(kernel)}")
    for axis, patch in enumerate(kernel, start=2):
        if x.shape[axis] < patch:
            raise RuntimeError(
                f"kernel {tuple(kernel)} is larger than the input, which has size {x.shape[axis]} "
                f"along axis {axis} of [B, C, *spatial]"
            )
        # unfold crops by itself. To narrow and split by hand gives the same view, but ties an
        # exported program to sizes that the kernel divides, or does not, as in the example.
        x = x.unfold(axis, patch, patch)
    grid_axes, patch_axes = range(2, 2 + dims), range(2 + dims, 2 + 2 * dims)
    if order == CHANNEL_LAST:
        return x.permute(0, *grid_axes, *patch_axes, 1).flatten(-1 - dims)
    windows = x.permute(0, *grid_axes, 1, *patch_axes)
    return (
        _by_position(windows, dims) if _loops_badly(windows, dims) else windows.flatten(-1 - dims)
    )


def _loops_badly(windows: Tensor, dims: int) -> bool:
    """Tell whether a plain copy of `[B, *grid, C, *kernel]` is slow, or none slows the product.

    Rows that are not contiguous take a CPU's product of 2-byte floats three to six times as long,
    more than a copy does; that of longer ones hardly notices. Compiled code writes its own loops,
    and other devices have none.
    """
    if windows.device.type != "cpu" or torch.compiler.is_compiling() or windows.is_contiguous():
        return False
    kernel = windows.shape[-dims:]
    return kernel[-1] <= _SHORT and (kernel.numel() > 1 or windows.element_size() < _FLOAT)


def _by_position(windows: Tensor, dims: int) -> Tensor:
    """Merge the last axes of `[B, *grid, C, *kernel]` in one copy, a kernel's position at a time.

    Each such part is copied in loops as long as the grid's last axis and the channels. Unbinding
    costs its backward one copy an axis, where an index for each part would cost one a part.
    """
    cells = [windows]
    for _ in range(dims):
        cells = [part for cell in cells for part in cell.unbind(dims + 2)]
    return torch.stack(cells, dim=-1).flatten(-2)


def to_tokens(x: Tensor, in_channels: int, kernel: tuple[int, ...], layout: str) -> Tensor:
    """Turn what a convolution takes into what the equivalent linear layer takes.

    The batch stays the first axis, and is there even for one map: adapters that pick rows of a
    mixed batch index it.

    Args:
        x: `[B, C, *spatial]`, or `[C, *spatial]` unbatched.
        in_channels: C.
        kernel: kernel and stride of the convolution.
        layout: order of a flattened patch, see `patchify`.

    Returns:
        Tokens `[B, prod(grid), C * prod(kernel)]`, with B = 1 for an unbatched input.

    Raises:
        RuntimeError: as a convolution does, for a wrong number of axes or channels, or an input
            smaller than the kernel.
    """
    dims = len(kernel)
    if x.dim() not in (dims + 1, dims + 2):
        raise RuntimeError(
            f"expected {dims + 1} axes (unbatched) or {dims + 2} (batched), "
            f"but got an input of size {list(x.shape)}"
        )
    # Without this check a reshape would accept [B, 2*C, H/2, W] and mix channels with pixels.
    if x.shape[-dims - 1] != in_channels:
        raise RuntimeError(
            f"expected an input with {in_channels} channels, but got {x.shape[-dims - 1]} "
            f"in an input of size {list(x.shape)}"
        )
    batched = x if x.dim() == dims + 2 else x.unsqueeze(0)
    return patchify(batched, kernel, layout).flatten(1, dims)


def to_map(tokens: Tensor, x: Tensor, kernel: tuple[int, ...]) -> Tensor:
    """Lay a linear layer's output out as the convolution's output; always a view.

    Args:
        tokens: `[B, prod(grid), O]`.
        x: the input that `to_tokens` took; only its sizes are read.
        kernel: kernel and stride of the convolution.

    Returns:
        `[B, O, *grid]`, or `[O, *grid]` where `x` is unbatched, in channels-last memory order.
    """
    dims = len(kernel)
    grid = [size // patch for size, patch in zip(x.shape[-dims:], kernel, strict=True)]
    out = torch.unflatten(tokens.transpose(1, 2), 2, grid)
    return out if x.dim() == dims + 2 else out.squeeze(0)


def flatten_weight(weight: Tensor, layout: str) -> Tensor:
    """Flatten a convolution's weight `[O, C, *kernel]` to a linear one `[O, C * prod(kernel)]`.

    A view where the memory format allows it: contiguous for "c p1 p2", channels-last for
    "p1 p2 c". Else a copy, which moves bits and changes none.
    """
    return (weight if layout == CHANNEL_FIRST else weight.movedim(1, -1)).flatten(1)


def unflatten_weight(
    weight: Tensor, in_channels: int, kernel: tuple[int, ...], layout: str
) -> Tensor:
    """See a linear weight `[O, C * prod(kernel)]` as a convolution's `[O, C, *kernel]`; a view."""
    if layout == CHANNEL_FIRST:
        return torch.unflatten(weight, 1, (in_channels, *kernel))
    return torch.unflatten(weight, 1, (*kernel, in_channels)).movedim(-1, 1)


# What transformers sets on a parameter that a file has filled, and on a module that it initialised.
INITIALISED = "_is_hf_initialized"


def marked(view: Tensor, parameter: Tensor) -> Tensor:
    """Mark a view of a parameter as loaded if that is.

    Initialisers of transformers run over every module that has something left to fill, and pass
    over what is marked. Without it they fill a loaded weight through its view.
    """
    if not torch.compiler.is_compiling() and getattr(parameter, INITIALISED, False):
        setattr(view, INITIALISED, True)
    return view
