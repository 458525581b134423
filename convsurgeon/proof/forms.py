"""Both forms of a layer, run by torch's own operators in float64.

The original form is the definition: `torch.nn.functional.conv*d` with the given geometry, or
`linear` over the windows. Nothing here comes from the drop-in modules or from the rewrite.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convsurgeon.errors import RefusedError
from convsurgeon.geometry import LINEAR, Geometry
from convsurgeon.header import TensorInfo
from convsurgeon.proof.bits import row_blocks
from convsurgeon.proof.pairing import Side
from convsurgeon.store import Reader

if TYPE_CHECKING:
    import torch

TORCH_NAMES = {
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


@dataclass(frozen=True, slots=True)
class Stored:
    """Where one form of a layer is stored: its weight, and its bias if it has one."""

    reader: Reader
    weight: TensorInfo
    bias: TensorInfo | None


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of a layer.

    Attributes:
        weight: `[rows, C, *kernel]` or `[rows, in_features]`.
        bias: `[rows]`, if there is one.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None

    def magnitudes(self) -> Rows:
        """Return the absolute values."""
        return Rows(self.weight.abs(), None if self.bias is None else self.bias.abs())

    def safe_power(self) -> float:
        """Return a power of two that keeps sums of huge weights from overflowing; mostly 1.

        Where partial sums overflow, two orders of summation give infinities and NaN as they like.
        """
        finite = self.weight[self.weight.isfinite()].abs()
        return _SMALL if finite.numel() and float(finite.max()) > _HUGE else 1.0

    def times(self, power: float) -> Rows:
        """Return the rows multiplied with a power of two: exact, but for underflow."""
        if power == 1:
            return self
        return Rows(self.weight * power, None if self.bias is None else self.bias * power)

    def to(self, dtype: torch.dtype) -> Rows:
        """Return the rows in another dtype."""
        return Rows(self.weight.to(dtype), None if self.bias is None else self.bias.to(dtype))


def need_torch() -> Any:
    """Return torch.

    Raises:
        RefusedError: CS052 where it is missing.
    """
    try:
        import torch
    except ImportError:
        hint = "--verify bits (or verify --bits) proves the bits without it"
        raise RefusedError("CS052", "the function proof needs torch", hint=hint) from None
    return torch


def read_rows(side: Side, stored: Stored) -> Iterator[Rows]:
    """Yield a layer in float64, in blocks of output rows: they do not depend on each other."""
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
        yield Rows(weight, None if bias is None else bias[first:last])


def _tensor(data: bytes, dtype: str, shape: tuple[int, ...]) -> torch.Tensor:
    import torch

    stored = torch.frombuffer(bytearray(data), dtype=getattr(torch, TORCH_NAMES[dtype]))
    return stored.reshape(shape).to(torch.float64)


def apply(side: Side, rows: Rows, geometry: Geometry, x: torch.Tensor) -> torch.Tensor:
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
