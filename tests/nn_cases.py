"""Random convolutions with stride == kernel, and how far two ways to compute one may differ."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from convsurgeon.nn import GemmConv1d, GemmConv2d, GemmConv3d, PatchLinear

Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
CONVS: dict[int, type[Conv]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
GEMMS: dict[int, type[GemmConv1d | GemmConv2d | GemmConv3d]] = {
    1: GemmConv1d,
    2: GemmConv2d,
    3: GemmConv3d,
}
KINDS = ("gemm", "c p1 p2", "p1 p2 c")
UNIT = 2.0**-53  # unit roundoff of float64


def replacement(kind: str, conv: Conv) -> GemmConv1d | GemmConv2d | GemmConv3d | PatchLinear:
    """Build the drop-in module that a row of KINDS names."""
    if kind == "gemm":
        return GEMMS[len(conv.kernel_size)].from_conv(conv)
    return PatchLinear.from_conv(conv, kind)


def make_conv(kernel: tuple[int, ...], channels: int = 3, out: int = 4, **rest: Any) -> Conv:
    """Build a convolution of as many axes as the kernel has, with stride == kernel."""
    kind: Any = CONVS[len(kernel)]
    conv = kind(channels, out, kernel, **{"stride": kernel, **rest})
    assert isinstance(conv, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    return conv


def set_memory(module: Conv, memory: torch.memory_format) -> None:
    """Lay a module's weight out in another order of memory."""
    module.weight.data = module.weight.data.contiguous(memory_format=memory)


@dataclass(frozen=True)
class Case:
    kernel: tuple[int, ...]
    spatial: tuple[int, ...]
    channels: int
    out: int
    bias: bool
    batch: int | None
    seed: int

    def build(self) -> tuple[Conv, Tensor]:
        """Return the convolution and an input, both in float64."""
        torch.manual_seed(self.seed)
        conv = make_conv(self.kernel, self.channels, self.out, bias=self.bias, dtype=torch.float64)
        lead = () if self.batch is None else (self.batch,)
        return conv, torch.randn(*lead, self.channels, *self.spatial, dtype=torch.float64)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw 1 to 3 axes, uneven kernels, sizes that they do not divide, any or no batch."""
    dims = draw(st.integers(1, 3))
    kernel = tuple(draw(st.integers(1, 4)) for _ in range(dims))
    spatial = tuple(k * draw(st.integers(1, 3)) + draw(st.integers(0, k - 1)) for k in kernel)
    return Case(
        kernel=kernel,
        spatial=spatial,
        channels=draw(st.integers(1, 4)),
        out=draw(st.integers(1, 5)),
        bias=draw(st.booleans()),
        batch=draw(st.sampled_from([None, 0, 1, 3])),
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def gamma(n: int) -> float:
    """Return n*u / (1 - n*u) of Higham, Accuracy and Stability, 2nd ed., section 3.1."""
    return n * UNIT / (1 - n * UNIT)


def assert_close(first: Tensor, second: Tensor, magnitude: Tensor, products: int) -> None:
    """Check that two float64 results may both be the same sums of n products and one more term.

    Summed in whatever order, each differs from the exact sum by at most gamma(n + 1) times the sum
    of the absolute values (Higham, section 3.1), hence they from each other by twice that.
    `magnitude` is that sum as computed, and so may itself be too small by the same factor.
    """
    assert first.shape == second.shape
    assert first.dtype == second.dtype == torch.float64
    error = gamma(products + 1)
    assert bool(((first - second).abs() <= 2 * error * magnitude / (1 - error)).all())


def products(conv: Conv) -> int:
    """Return how many products one output of a convolution is the sum of."""
    return conv.in_channels * math.prod(conv.kernel_size)


def absolute(conv: Conv) -> Conv:
    """Return the convolution with the absolute values of its numbers."""
    other = make_conv(
        conv.kernel_size,
        conv.in_channels,
        conv.out_channels,
        bias=conv.bias is not None,
        dtype=conv.weight.dtype,
    )
    with torch.no_grad():
        for new, old in zip(other.parameters(), conv.parameters(), strict=True):
            new.copy_(old.abs())
    return other


def bits(tensor: Tensor) -> Tensor:
    """See a tensor's bits as integers: NaN is not equal to itself."""
    kind = {2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    return tensor.detach().contiguous().view(kind)
