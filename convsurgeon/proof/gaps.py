"""How far two tensors are from each other."""

from __future__ import annotations

from math import frexp, isfinite, ldexp
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def difference(first: Tensor, second: Tensor) -> float:
    """Return the largest difference between two tensors of one shape.

    Equal infinities and two NaN are no difference; a NaN on one side only is an infinite one.
    """
    a, b = _plain(first), _plain(second)
    same = (a == b) | (a.isnan() & b.isnan())
    infinite = float("inf")
    gap = (a - b).abs().nan_to_num(nan=infinite, posinf=infinite).masked_fill(same, 0)
    return float(gap.max()) if gap.numel() else 0.0


def response(first: Tensor, second: Tensor) -> float:
    """Return the largest difference over the elements that are finite in both tensors.

    A yardstick is finite: an overflow that comes and goes with a last place would excuse anything.
    """
    if first.shape != second.shape:
        return 0.0
    return _largest(_plain(first).sub(_plain(second)))


def magnitude(tensor: Tensor) -> float:
    """Return the largest finite magnitude; 0 where there is none."""
    return _largest(_plain(tensor))


def last_place(tensor: Tensor) -> float:
    """Return one unit in the last place of the largest finite magnitude; 0 for integers."""
    import torch

    if not (tensor.is_floating_point() or tensor.is_complex()):
        return 0.0
    top = magnitude(tensor)
    # `frexp` puts the mantissa between a half and one, and the unit is that of one to two.
    return ldexp(torch.finfo(tensor.dtype).eps, frexp(top)[1] - 1) if top else 0.0


def objection(first: Tensor, second: Tensor) -> str:
    """Say what is wrong with the second tensor beside its numbers; empty where nothing is.

    Args:
        first: the original's.
        second: the swapped model's.
    """
    if first.shape != second.shape:
        return f"shape {list(first.shape)} became {list(second.shape)}"
    if first.dtype != second.dtype:
        return f"{first.dtype} became {second.dtype}"
    a, b = _plain(first), _plain(second)
    holes = int((a.isnan() != b.isnan()).sum())
    if holes:
        return f"NaN at other places: {holes} of {a.numel()}"
    if a.numel() and bool(a.isnan().all()):
        return "every number is NaN, so there is nothing to compare"
    unequal = 0 if first.is_floating_point() or first.is_complex() else int((a != b).sum())
    return f"{unequal} of {a.numel()} integers differ" if unequal else ""


def _largest(numbers: Tensor) -> float:
    """Return the largest finite magnitude of numbers in float64 or int64; 0 where there is none."""
    if not numbers.numel():
        return 0.0
    found = numbers.abs()
    top = float(found.max())
    # One pass is enough where nothing overflows, and every layer of every forward comes here.
    return top if isfinite(top) else float(found.where(found.isfinite(), 0).max())


def _plain(tensor: Tensor) -> Tensor:
    """Return the numbers in float64 or int64, which hold those of every smaller dtype exactly."""
    import torch

    dense = tensor.detach()
    if dense.layout != torch.strided:
        dense = dense.to_dense()
    if dense.is_complex():
        dense = torch.view_as_real(dense.resolve_conj())
    # In float64, whole numbers above 2^53 would lose their last digits.
    wide = torch.float64 if dense.is_floating_point() else torch.int64
    return dense.to(wide)
