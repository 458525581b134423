"""Function and floats: both forms of a layer, run on inputs of their own."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from convsurgeon.geometry import Geometry
from convsurgeon.proof.bounds import factor, underflow
from convsurgeon.proof.figures import Floats, Function, Probes
from convsurgeon.proof.forms import Rows, Stored, apply, need_torch, read_rows
from convsurgeon.proof.inputs import GRID, SEED, layer_inputs, tensor_of
from convsurgeon.proof.pairing import Pair
from convsurgeon.proof.probes import places, probe
from convsurgeon.proof.rounding import Rounding

if TYPE_CHECKING:
    import torch


def run_both(
    pair: Pair, geometry: Geometry, before: Stored, after: Stored, *, exhaustive: bool = False
) -> tuple[Function, Floats | None]:
    """Run both forms of a layer on one-hot, random and index-coded inputs.

    Args:
        pair: the two forms.
        geometry: what both are built from.
        before: where the original is stored.
        after: where the rewritten form is stored.
        exhaustive: whether every place of a patch is probed, whatever it takes.

    Raises:
        RefusedError: CS052 where torch is missing.
    """
    torch = need_torch()
    channels = prod(pair.before.shape[1:]) // geometry.window
    inputs = layer_inputs(channels, geometry)
    tried = places((channels, *geometry.kernel), before.weight.shape[0], exhaustive=exhaustive)
    generator = torch.Generator().manual_seed(SEED)
    worst, rounding = _Worst(), Rounding(before.weight.dtype)
    found = Probes(equal=True, tried=len(tried), places=channels * geometry.window)
    with torch.no_grad():
        tensors = [tensor_of(one, generator) for one in inputs]
        blocks = zip(read_rows(pair.before, before), read_rows(pair.after, after), strict=True)
        for rows in blocks:
            _run(pair, rows, geometry, tensors, worst)
            found = _added(found, probe(pair, rows, geometry, tried))
            rounding.see(pair, rows, geometry, tensors[GRID])
    function = Function(worst.ok, worst.difference, worst.bound, worst.outputs, inputs, SEED, found)
    return function, rounding.figure()


def _added(one: Probes, other: Probes) -> Probes:
    differing = one.differing + other.differing
    return Probes(not differing, other.tried, other.places, differing)


def _run(
    pair: Pair,
    rows: tuple[Rows, Rows],
    geometry: Geometry,
    inputs: list[torch.Tensor],
    worst: _Worst,
) -> None:
    """Run some rows of both forms on each input, and look at every output."""
    products = prod(pair.before.shape[1:])
    power = rows[0].safe_power()
    old, new = (one.times(power) for one in rows)
    for x in inputs:
        y, z = apply(pair.before, old, geometry, x), apply(pair.after, new, geometry, x)
        magnitude = apply(pair.before, old.magnitudes(), geometry, x.abs())
        worst.see(y, z, magnitude * factor(products) + underflow(products))


class _Worst:
    """The output that comes closest to its bound, over all inputs and rows."""

    def __init__(self) -> None:
        self.ok = True
        self.difference = 0.0
        self.bound = 0.0
        self.outputs = 0
        self._ratio = -1.0

    def see(self, y: torch.Tensor, z: torch.Tensor, bound: torch.Tensor) -> None:
        """Compare two outputs `[..., O, *grid]` element by element."""
        import torch

        self.outputs += y.numel()
        if y.shape != z.shape:
            self.ok, self.difference = False, float("inf")
            return
        # NaN and infinities of the weights must come out alike; they have no bound.
        same = (y == z) | (y.isnan() & z.isnan())
        difference = (y - z).abs()
        within = same | (bound.isfinite() & (difference <= bound))
        self.ok = self.ok and bool(within.all())
        ratio = torch.where(same, 0.0, difference / bound).nan_to_num(nan=float("inf")).flatten()
        if not ratio.numel():
            return
        at = int(ratio.argmax())
        if float(ratio[at]) > self._ratio:
            self._ratio = float(ratio[at])
            self.difference = float(difference.flatten()[at].nan_to_num(nan=float("inf")))
            self.bound = float(bound.flatten()[at])
            if self._ratio == 0:
                self.difference, self.bound = 0.0, _largest(bound)


def _largest(bound: torch.Tensor) -> float:
    finite = bound[bound.isfinite()]
    return float(finite.max()) if finite.numel() else 0.0
