"""Whether two files are one model to a library, bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convsurgeon.sources.model import need_torch

if TYPE_CHECKING:
    from torch import Tensor, nn


def differences(original: nn.Module, swapped: nn.Module) -> tuple[str, ...]:
    """Say in which tensors two loaded models differ, one line each.

    A library that takes a swapped weight brings it back into its own form; then nothing is left of
    the swap, and every parameter and buffer has the bits that it has from the original. This sees
    what no name and no shape shows: timm's filter for vision transformers takes every flat weight
    for channel first.

    Args:
        original: loaded from the original file, under the same config.
        swapped: loaded from the swapped one.
    """
    first, second = original.state_dict(), swapped.state_dict()
    lines = []
    for name in sorted(first.keys() | second.keys()):
        if name not in first or name not in second:
            which = "original" if name in first else "swapped file"
            lines.append(f"{name} is in the model of the {which} only")
        elif not _same(first[name], second[name]):
            lines.append(f"{name} has other values than from the original")
    return tuple(lines)


def _same(one: Tensor, other: Tensor) -> bool:
    torch = need_torch()
    if not isinstance(one, torch.Tensor):
        return bool(one == other)  # extra state of a module
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    bits = [t.contiguous().reshape(-1).view(torch.uint8) for t in (one, other)]
    return bool(torch.equal(*bits))
