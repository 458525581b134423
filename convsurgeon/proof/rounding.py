"""Floats: the rounding errors of both forms in the stored dtype, against float64."""

from __future__ import annotations

from math import isfinite, sqrt
from typing import TYPE_CHECKING

from convsurgeon.geometry import Geometry
from convsurgeon.proof.figures import Error, Floats
from convsurgeon.proof.forms import TORCH_NAMES, Rows, apply
from convsurgeon.proof.pairing import Pair

if TYPE_CHECKING:
    import torch

_WITH_KERNELS = ("F64", "F32", "F16", "BF16")


class Rounding:
    """Collects the errors of both forms over all rows.

    The exact outputs are those of the original form in float64 on the very numbers that the stored
    dtype's run gets. A float64 layer has no better yardstick here: its errors are 0 for the
    original, and what the summation's order makes for the other.
    """

    def __init__(self, dtype: str) -> None:
        self._dtype = dtype
        self._missing = dtype not in _WITH_KERNELS
        self._scale = 0.0
        self._squares = 0.0
        self._outputs = 0
        self._errors = (_Error(), _Error(), _Error())

    def see(self, pair: Pair, rows: tuple[Rows, Rows], geometry: Geometry, x: torch.Tensor) -> None:
        """Run some rows of both forms on one input `[B, C, *spatial]`, given in float64."""
        import torch

        if self._missing:
            return
        dtype = getattr(torch, TORCH_NAMES[self._dtype])
        x = x.to(dtype)
        exact = apply(pair.before, rows[0], geometry, x.to(torch.float64))
        try:
            y = apply(pair.before, rows[0].to(dtype), geometry, x).to(torch.float64)
            z = apply(pair.after, rows[1].to(dtype), geometry, x).to(torch.float64)
        except RuntimeError:  # this build has no kernel for the dtype
            self._missing = True
            return
        unit = unit_in_last_place(exact, dtype)
        self._scale = max(self._scale, float(exact.abs().max()))
        self._squares += float(exact.square().sum())
        self._outputs += exact.numel()
        for error, one in zip(self._errors, (y - exact, z - exact, y - z), strict=True):
            error.see(one, unit)

    def figure(self) -> Floats | None:
        """Return the figures; None where there are none: no kernels, zeros only, overflow."""
        if self._missing or not self._scale or not isfinite(self._scale):
            return None
        norm = sqrt(self._squares / self._outputs)
        before, after, between = (
            Error(
                absolute=error.largest,
                relative=error.largest / self._scale,
                ulps=error.ulps,
                mean_ulps=error.all_ulps / self._outputs,
                rms=sqrt(error.squares / self._outputs) / norm if norm else 0.0,
            )
            for error in self._errors
        )
        return Floats(self._dtype, before, after, between, self._outputs)


class _Error:
    def __init__(self) -> None:
        self.largest = self.ulps = self.all_ulps = self.squares = 0.0

    def see(self, one: torch.Tensor, unit: torch.Tensor) -> None:
        self.largest = max(self.largest, float(one.abs().max()))
        ulps = one.abs() / unit
        self.ulps = max(self.ulps, float(ulps.max()))
        self.all_ulps += float(ulps.sum())
        self.squares += float(one.square().sum())


def unit_in_last_place(exact: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the distance of neighbouring numbers of a dtype at each of some float64 numbers.

    2**(e - p + 1) with 2**e <= |x| < 2**(e + 1) and p bits of significand; the smallest positive
    number where that is smaller, and at zero (J.-M. Muller et al., *Handbook of Floating-Point
    Arithmetic*, 2nd ed., Birkhäuser 2018, section 2.3.2, with Goldberg's definition of the ulp).
    """
    import torch

    info = torch.finfo(dtype)
    smallest = info.tiny * info.eps
    _, exponent = torch.frexp(exact)  # |x| = m * 2**exponent with 1/2 <= m < 1
    unit = torch.ldexp(torch.full_like(exact, info.eps), exponent - 1)
    return torch.where(exact == 0, smallest, unit.clamp(min=smallest))
