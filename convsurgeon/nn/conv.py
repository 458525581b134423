"""Linear layers as convolutions: over a kernel that covers the input, or over one pixel.

A linear layer `[O, F]` is the convolution `[O, C, *kernel]` with C * prod(kernel) = F whose input
is as large as its kernel. Two choices are common: the kernel is the size of the map that was
flattened, and then the convolution slides over any larger map; or the kernel is 1 and all
features are channels, which is what neural engines run fast.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, Self

import torch.fx
from torch import nn
from torch.nn.modules.conv import _ConvNd

from convsurgeon.nn.exact import refuse_unless_plain
from convsurgeon.nn.patches import check_features, flatten_weight, unflatten_weight
from convsurgeon.nn.positions import INPUTS, at_positions
from convsurgeon.rearrangement import CHANNEL_FIRST

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

# Leaves of a symbolic trace, as torch's own layers are: they read sizes, which a trace cannot
# follow.
torch.fx.wrap("to_windows")
torch.fx.wrap("from_windows")

Input = Literal["flat", "map", "view"]
"""What goes in and comes out; see `FlatConv2d`."""


class _FlatConv(_ConvNd):
    """What the three classes share.

    What goes in and comes out is said by `input`, never guessed from a shape: `[8, 4, 2, 2]` may
    be 8 maps, or 64 rows of 2 features.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: the spatial size of the input that is covered, or 1; one number or one per
            axis.
        input: "flat" keeps the linear layer's contract, `[..., C * prod(kernel)]` to `[..., O]`.
            "map" has the convolution's at stride 1, `[B, C, *spatial]` to
            `[B, O, *(spatial - kernel + 1)]`, batched or not. "view", for a kernel of one position,
            has the linear layer's contract with another order of memory: what it gives is a view of
            a map `[B, O, *positions]`, and of what is such a view already it makes no copy.
        bias: whether there is one.
        device: where the parameters are.
        dtype: of the parameters.

    Raises:
        ValueError: `input` is none of the three, or "view" with a larger kernel.
    """

    def __init__(  # noqa: PLR0913 - those of nn.Conv2d that are free here, and the input's kind
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        *,
        input: Input = "flat",  # noqa: A002 - says what it is about
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if input not in INPUTS:
            raise ValueError(f"input must be one of {INPUTS}, not {input!r}")
        # The next class in line is nn.ConvNd, which fills in most of what _ConvNd asks for.
        init: Any = super().__init__
        init(in_channels, out_channels, kernel_size, bias=bias, device=device, dtype=dtype)
        self.input = input
        if input == "view" and not self.pointwise:
            raise ValueError(f'input="view" goes with a kernel of one position, not {kernel_size}')

    @classmethod
    def from_linear(
        cls,
        linear: nn.Module,
        in_channels: int,
        kernel_size: int | tuple[int, ...],
        *,
        input: Input = "flat",  # noqa: A002 - as in the constructor
    ) -> Self:
        """Take over a linear layer: bits, `requires_grad`, dtype, device, the training flag.

        The features are those of a map `[C, *kernel]` flattened as torch does, channel first. The
        bias is the very same parameter; the weight is a new one over the same storage.

        Args:
            linear: an nn.Linear with `in_features == in_channels * prod(kernel_size)`.
            in_channels: C of the map that was flattened; for a 1x1 convolution all features.
            kernel_size: spatial size of that map, one number or one per axis; or 1.
            input: "flat", "map" or "view", as in the constructor.

        Raises:
            ValueError: `linear` is not exactly nn.Linear, its weight is computed from other
                tensors, it has hooks, or its features are not C * prod(kernel).
        """
        plain = refuse_unless_plain(linear, nn.Linear)
        has_bias = plain.bias is not None
        # On the meta device: neither memory nor random numbers for what is replaced at once.
        new = cls(
            in_channels, plain.out_features, kernel_size, input=input, bias=has_bias, device="meta"
        )
        if new.in_features != plain.in_features:
            raise ValueError(
                f"{in_channels} channels with kernel {new.kernel_size} make {new.in_features} "
                f"features, but the linear layer takes {plain.in_features}"
            )
        old = plain.weight.detach()
        weight = unflatten_weight(old, in_channels, new.kernel_size, CHANNEL_FIRST)
        new.weight = nn.Parameter(weight, requires_grad=plain.weight.requires_grad)
        new.bias = plain.bias
        return new.train(plain.training)

    def to_linear(self) -> nn.Linear:
        """Give back the plain linear layer, bit for bit.

        The bias is the very same parameter, and the weight shares its storage if it is contiguous.
        """
        has_bias = self.bias is not None
        linear = nn.Linear(self.in_features, self.out_features, has_bias, device="meta")
        weight = flatten_weight(self.weight.detach(), CHANNEL_FIRST)
        linear.weight = nn.Parameter(weight, requires_grad=self.weight.requires_grad)
        linear.bias = self.bias  # type: ignore[assignment] # torch declares it as never None
        return linear.train(self.training)

    @property
    def in_features(self) -> int:
        """C * prod(kernel), what the linear layer takes."""
        return self.in_channels * math.prod(self.kernel_size)

    @property
    def out_features(self) -> int:
        """O."""
        return self.out_channels

    @property
    def pointwise(self) -> bool:
        """Whether the kernel is one position."""
        return math.prod(self.kernel_size) == 1

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - callers may use torch's name
        """Apply the convolution to rows of features, or to maps, as the constructor says.

        Shapes: `[..., in_features]` to `[..., out_features]` for "flat" and "view";
        `[B, C, *spatial]` (or `[C, *spatial]`) to `[B, O, *(spatial - kernel + 1)]` for "map".
        The result is contiguous for "flat", as a linear layer's.

        Raises:
            RuntimeError: a wrong number of features or channels, or a map smaller than the kernel.
        """
        convolve: Callable[[Tensor], Tensor] = super().forward
        if self.pointwise:
            axes = len(self.kernel_size)
            return at_positions(convolve, input, self.in_channels, axes, self.input)
        if self.input == "map":
            return convolve(input)
        windows = to_windows(input, self.in_channels, self.kernel_size)
        return from_windows(convolve(windows), input)

    def extra_repr(self) -> str:
        """Show the geometry as a convolution does, and what the input is."""
        geometry: Callable[[], str] = super().extra_repr
        return f"{geometry()}, input={self.input!r}"


class FlatConv1d(_FlatConv, nn.Conv1d):
    """A linear layer as an nn.Conv1d with the weight `[O, C, k]`; see `FlatConv2d`."""


class FlatConv2d(_FlatConv, nn.Conv2d):
    """A linear layer as an nn.Conv2d with the weight `[O, C, kh, kw]`.

    What it takes and gives is said by `input`: "flat", rows as the linear layer; "map", maps
    `[B, C, H, W]`, over which the kernel slides; "view", for a kernel of one position, rows that
    are a view of a map `[B, C, 1, S]`, in whose order of memory they lie.
    """


class FlatConv3d(_FlatConv, nn.Conv3d):
    """A linear layer as an nn.Conv3d with the weight `[O, C, kt, kh, kw]`; see `FlatConv2d`."""


def to_windows(x: Tensor, in_channels: int, kernel: tuple[int, ...]) -> Tensor:
    """Turn rows of features `[..., C * prod(kernel)]` into maps `[N, C, *kernel]`; N may be 0.

    Raises:
        RuntimeError: as a linear layer does, for a wrong number of features.
    """
    check_features(x, in_channels, kernel)
    return x.reshape(-1, in_channels, *kernel)


def from_windows(out: Tensor, x: Tensor) -> Tensor:
    """Turn what the convolution gives, `[N, O, 1, ...]`, into rows `[..., O]` as many as in `x`."""
    return out.reshape(*x.shape[:-1], out.shape[1])
