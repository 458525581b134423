"""Function and floats: both forms run on random inputs, by torch's own operators.

The original form is the definition: `torch.nn.functional.conv*d` with the given geometry, or
`linear` over the windows. Nothing here comes from the drop-in modules or from the rewrite.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite, prod
from typing import TYPE_CHECKING

from convsurgeon.errors import RefusedError
from convsurgeon.geometry import LINEAR, Geometry
from convsurgeon.header import TensorInfo
from convsurgeon.proof.bits import row_blocks
from convsurgeon.proof.bounds import factor, underflow
from convsurgeon.proof.inputs import SEED, input_shapes
from convsurgeon.proof.pairing import Pair, Side
from convsurgeon.proof.verdict import Floats, Function
from convsurgeon.store import Reader

if TYPE_CHECKING:
    import torch

_TORCH_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
}
_HUGE, _SMALL = 2.0**500, 2.0**-600
_WITH_KERNELS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class Stored:
    """Where one form of a layer is stored: its weight, and its bias if it has one."""

    reader: Reader
    weight: TensorInfo
    bias: TensorInfo | None


def run_both(
    pair: Pair, geometry: Geometry, before: Stored, after: Stored
) -> tuple[Function, Floats | None]:
    """Run both forms of a layer on random inputs.

    Args:
        pair: the two forms.
        geometry: what both are built from.
        before: where the original is stored.
        after: where the rewritten form is stored.

    Raises:
        RefusedError: CS052 where torch is missing.
    """
    try:
        import torch
    except ImportError:
        hint = "--verify bits proves the bits without it"
        raise RefusedError("CS052", "the function proof needs torch", hint=hint) from None
    channels = _channels(pair, geometry)
    shapes = input_shapes(channels, geometry)
    worst, outputs = _Worst(), 0
    errors = _Errors()
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        inputs = [torch.randn(s, dtype=torch.float64, generator=generator) for s in shapes]
        products = channels * geometry.window
        for old, new in zip(_rows(pair.before, before), _rows(pair.after, after), strict=True):
            power = old.safe_power()
            scaled, other = old.times(power), new.times(power)
            for x in inputs:
                y = _apply(pair.before, scaled, geometry, x)
                z = _apply(pair.after, other, geometry, x)
                magnitude = _apply(pair.before, scaled.magnitudes(), geometry, x.abs())
                outputs += y.numel()
                worst.see(y, z, magnitude * factor(products) + underflow(products))
            if before.weight.dtype in _WITH_KERNELS:
                errors.see(pair, (old, new), geometry, inputs[3], before.weight.dtype)
    function = Function(worst.ok, worst.difference, worst.bound, outputs, shapes, SEED)
    return function, errors.figure(before.weight.dtype)


@dataclass(frozen=True, slots=True)
class _Rows:
    """Some rows of a layer in float64."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    def magnitudes(self) -> _Rows:
        return _Rows(self.weight.abs(), None if self.bias is None else self.bias.abs())

    def safe_power(self) -> float:
        """Return a power of two that keeps sums of huge weights from overflowing; mostly 1.

        Where partial sums overflow, two orders of summation give infinities and NaN as they like.
        """
        finite = self.weight[self.weight.isfinite()].abs()
        return _SMALL if finite.numel() and float(finite.max()) > _HUGE else 1.0

    def times(self, power: float) -> _Rows:
        if power == 1:
            return self
        return _Rows(self.weight * power, None if self.bias is None else self.bias * power)

    def to(self, dtype: torch.dtype) -> _Rows:
        return _Rows(self.weight.to(dtype), None if self.bias is None else self.bias.to(dtype))


def _rows(side: Side, stored: Stored) -> Iterator[_Rows]:
    """Yield the layer in blocks of output rows: they do not depend on each other."""
    info = stored.weight
    row_bytes = info.nbytes // info.shape[0]
    bias = None
    if stored.bias is not None:
        data = stored.reader.read(stored.bias.begin, stored.bias.end)
        bias = _tensor(data, stored.bias.dtype, stored.bias.shape)
    for begin, end in row_blocks(info, row_bytes):
        first, last = ((at - info.begin) // row_bytes for at in (begin, end))
        data = stored.reader.read(begin, end)
        weight = _tensor(data, info.dtype, (last - first, *side.shape[1:]))
        yield _Rows(weight, None if bias is None else bias[first:last])


def _tensor(data: bytes, dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
    import torch

    stored = torch.frombuffer(bytearray(data), dtype=getattr(torch, _TORCH_NAMES[dtype]))
    return stored.reshape(shape).to(torch.float64)


def _channels(pair: Pair, geometry: Geometry) -> int:
    return prod(pair.before.shape[1:]) // geometry.window


def _apply(side: Side, rows: _Rows, geometry: Geometry, x: torch.Tensor) -> torch.Tensor:
    """Run one form: `[B, C, *spatial]` or `[C, *spatial]` in, `[B, O, *grid]` or unbatched out."""
    from torch.nn import functional

    if side.form != LINEAR:
        conv = (functional.conv1d, functional.conv2d, functional.conv3d)[geometry.ndim - 1]
        return conv(x, rows.weight, rows.bias, stride=geometry.stride)
    n = geometry.ndim
    batched = x if x.ndim == n + 2 else x.unsqueeze(0)
    windows = batched
    for axis in range(n):
        windows = windows.unfold(2 + axis, geometry.kernel[axis], geometry.stride[axis])
    grid, inside = list(range(2, 2 + n)), list(range(2 + n, 2 + 2 * n))
    patch = [1, *inside] if side.layout == "c p1 p2" else [*inside, 1]
    tokens = windows.permute(0, *grid, *patch).flatten(1 + n)
    y = functional.linear(tokens, rows.weight, rows.bias).movedim(-1, 1)
    return y if x.ndim == n + 2 else y.squeeze(0)


class _Worst:
    """The output that comes closest to its bound, over all inputs and rows."""

    def __init__(self) -> None:
        self.ok = True
        self.difference = 0.0
        self.bound = 0.0
        self._ratio = -1.0

    def see(self, y: torch.Tensor, z: torch.Tensor, bound: torch.Tensor) -> None:
        """Compare two outputs `[..., O, *grid]` element by element."""
        import torch

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


class _Errors:
    """Errors against float64 in the stored dtype, over all rows."""

    def __init__(self) -> None:
        self._largest = [0.0, 0.0, 0.0]
        self._scale = 0.0
        self._missing = False

    def see(
        self, pair: Pair, rows: tuple[_Rows, _Rows], geometry: Geometry, x: torch.Tensor, name: str
    ) -> None:
        """Run both forms in the stored dtype on one input."""
        import torch

        dtype = getattr(torch, _TORCH_NAMES[name])
        x = x.to(dtype)
        exact = _apply(pair.before, rows[0], geometry, x.to(torch.float64))
        try:
            y = _apply(pair.before, rows[0].to(dtype), geometry, x).to(torch.float64)
            z = _apply(pair.after, rows[1].to(dtype), geometry, x).to(torch.float64)
        except RuntimeError:  # this build has no kernel for the dtype
            self._missing = True
            return
        self._scale = max(self._scale, float(exact.abs().max()))
        for place, one in enumerate((y - exact, z - exact, y - z)):
            self._largest[place] = max(self._largest[place], float(one.abs().max()))

    def figure(self, dtype: str) -> Floats | None:
        """Return the figures relative to the largest output; None where there are none."""
        if self._missing or not self._scale or not isfinite(self._scale):
            return None
        before, after, between = (value / self._scale for value in self._largest)
        return Floats(dtype, before, after, between)
