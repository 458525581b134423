"""A plain `nn.Linear` between cutting and laying out: what tools for linear layers can work on.

Quantisers and adapters look for modules that are an `nn.Linear`, replace or wrap them, and call
what they put there with `[..., in_features]`. So the inner layer is exactly that, a child named
`linear`, and everything about patches stays outside of it. `GemmConv2d` is the other kind.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self

import torch.fx
from torch import Tensor, nn

from convsurgeon.nn.exact import refuse_unless_exact, refuse_unless_plain
from convsurgeon.nn.patches import (
    MAX_DIMS,
    check_features,
    check_layout,
    flatten_weight,
    marked,
    to_map,
    to_tokens,
    unflatten_weight,
)
from convsurgeon.rearrangement import CHANNEL_FIRST

if TYPE_CHECKING:
    from torch.nn.modules.conv import _ConvNd

# Leaves of a symbolic trace, as torch's own convolutions are: they compare sizes, which a trace
# cannot follow.
for _leaf in ("to_tokens", "check_features", "to_map"):
    torch.fx.wrap(_leaf)

_CONVS: dict[int, type[nn.Conv1d | nn.Conv2d | nn.Conv3d]] = {
    1: nn.Conv1d,
    2: nn.Conv2d,
    3: nn.Conv3d,
}
# What convolutions compute in. An 8-bit float is a storage format: it needs scales beside it.
_COMPUTE = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


class PatchLinear(nn.Module):
    """A convolution with stride == kernel as a linear layer over patches, in 1 to 3 dimensions.

    It takes and gives what the convolution does. State dict: `linear.weight`
    `[O, C * prod(kernel)]` and `linear.bias` `[O]`.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: kernel and stride, one number per axis; its length is the number of axes.
        bias: whether there is one.
        layout: order of the columns of `linear.weight`, "c p1 p2" or "p1 p2 c" (see `patchify`).
        device: where the parameters are.
        dtype: of the parameters.

    Attributes:
        linear: the inner layer, fed tokens `[B, prod(grid), C * prod(kernel)]`.

    Raises:
        ValueError: the layout is unknown, or the kernel has not 1 to 3 axes.
    """

    compute: Tensor

    def __init__(  # noqa: PLR0913 - those of nn.Conv2d that are free here, and the layout
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, ...],
        *,
        bias: bool = True,
        layout: str = CHANNEL_FIRST,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        check_layout(layout)
        if not 1 <= len(kernel_size) <= MAX_DIMS:
            raise ValueError(f"kernel_size must have 1 to {MAX_DIMS} axes, not {kernel_size}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = tuple(kernel_size)
        self.layout = layout
        features = in_channels * math.prod(kernel_size)
        self.linear = nn.Linear(features, out_channels, bias, device=device, dtype=dtype)
        self._record(self.linear.weight)

    @classmethod
    def from_conv(cls, conv: nn.Module, layout: str = CHANNEL_FIRST) -> Self:
        """Take over a convolution: bits, `requires_grad`, dtype, device, the training flag.

        The bias is the very same parameter. The weight is a new one, since its shape differs, over
        the same storage where the memory format allows it (see `flatten_weight`): until one of the
        two modules moves, what is written to one appears in the other.

        Raises:
            ValueError: the layout is unknown, or `conv` is not exactly nn.Conv1d, nn.Conv2d or
                nn.Conv3d, has stride != kernel, padding, dilation or groups, a weight computed
                from other tensors, or hooks.
        """
        check_layout(layout)
        expected = next((c for c in _CONVS.values() if isinstance(conv, c)), nn.Conv2d)
        plain: _ConvNd = refuse_unless_exact(conv, expected)
        new = cls(
            plain.in_channels,
            plain.out_channels,
            plain.kernel_size,
            bias=plain.bias is not None,
            layout=layout,
            device="meta",  # neither memory nor random numbers for what is replaced at once
        )
        weight = flatten_weight(plain.weight.detach(), layout)
        new.linear.weight = nn.Parameter(weight, requires_grad=plain.weight.requires_grad)
        new.linear.bias = plain.bias  # type: ignore[assignment] # torch declares it as never None
        new._record(weight)
        return new.train(plain.training)

    def to_conv(self) -> _ConvNd:
        """Give back the equivalent plain convolution, bit for bit, with a contiguous weight.

        The bias is the very same parameter, and the weight shares its storage in layout "c p1 p2".

        Raises:
            ValueError: `linear` is no longer a plain nn.Linear, because it was quantised or wrapped
                by an adapter.
        """
        inner = refuse_unless_plain(self.linear, nn.Linear)
        has_bias = inner.bias is not None
        kind = _CONVS[len(self.kernel_size)]
        conv = kind(
            self.in_channels,
            self.out_channels,
            self.kernel_size,  # type: ignore[arg-type] # its length chose the class
            self.kernel_size,  # type: ignore[arg-type]
            bias=has_bias,
            device="meta",
        )
        # A channels-last weight would make the convolution give channels-last maps.
        weight = self._unflatten(inner.weight.detach()).contiguous()
        conv.weight = nn.Parameter(weight, requires_grad=inner.weight.requires_grad)
        conv.bias = inner.bias
        return conv.train(self.training)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - callers may use torch's name
        """Map `[B, C, *spatial]` (or unbatched `[C, *spatial]`) to `[B, O, *grid]` (`[O, *grid]`).

        The result is a view in channels-last memory order, whatever the input's: `flatten(2)` and
        `transpose` are free, a `view` that merges channels with space needs `reshape`.

        Raises:
            RuntimeError: as the convolution does, for a wrong number of axes or channels, or an
                input smaller than the kernel.
        """
        tokens = to_tokens(input, self.in_channels, self.kernel_size, self.layout)
        return to_map(self.forward_patches(tokens), input, self.kernel_size)

    def forward_patches(self, patches: Tensor) -> Tensor:
        """Map patches that were cut already in this layer's `layout` (see `patchify`).

        Shapes: `[..., C * prod(kernel)]` to `[..., O]`.

        Raises:
            RuntimeError: for a wrong number of features.
        """
        check_features(patches, self.in_channels, self.kernel_size)
        # Quantised layers and wrappers may take `view`s of what they get; nn.Linear needs no copy.
        plain = type(self.linear) is nn.Linear
        out: Tensor = self.linear(patches if plain else patches.contiguous())
        return out

    @property
    def weight(self) -> Tensor:
        """The weight as the convolution's: `[O, C, *kernel]`, in the dtype that is computed in.

        A view of the inner weight: what is written to it in place reaches `linear.weight`, and
        gradients flow through it. Where the inner layer holds no such weight any more (quantised,
        packed; under a compiler any tensor subclass), a stand-in of the same shape, dtype and
        device, filled with NaN and made anew at each call: models cast their input to
        `proj.weight.dtype`, which must not become int8, and whoever computes with the stand-in sees
        that the numbers are not there.
        """
        inner = _tensor(self.linear, "weight")
        shape = (self.out_channels, self.in_channels * math.prod(self.kernel_size))
        # Under a compiler the error of a tensor subclass, as of torchao, cannot be caught.
        closed = torch.compiler.is_compiling() and hasattr(type(inner), "__tensor_flatten__")
        if inner is not None and inner.dtype in _COMPUTE and inner.shape == shape and not closed:
            try:
                return marked(self._unflatten(inner), inner)
            except Exception:  # noqa: BLE001, S110 (no plain tensor of this shape fails)
                pass  # a tensor subclass, as of torchao, that knows no views; each raises its own
        device = self.compute.device if inner is None else inner.device
        number = torch.full((), math.nan, dtype=self.compute.dtype, device=device)
        return number.expand(self.out_channels, self.in_channels, *self.kernel_size)

    @property
    def bias(self) -> Tensor | None:
        """The inner layer's bias `[O]`, or None."""
        return _tensor(self.linear, "bias")

    @property
    def stride(self) -> tuple[int, ...]:
        """The kernel: read-only, as are all that follow from what this module is."""
        return self.kernel_size

    @property
    def padding(self) -> tuple[int, ...]:
        """0 along each axis."""
        return (0,) * len(self.kernel_size)

    @property
    def dilation(self) -> tuple[int, ...]:
        """1 along each axis."""
        return (1,) * len(self.kernel_size)

    @property
    def groups(self) -> int:
        """1."""
        return 1

    @property
    def padding_mode(self) -> str:
        """As of a convolution that does not pad: "zeros"."""
        return "zeros"

    def extra_repr(self) -> str:
        """Show the geometry, as a convolution does."""
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, layout={self.layout!r}"
        )

    def _unflatten(self, weight: Tensor) -> Tensor:
        return unflatten_weight(weight, self.in_channels, self.kernel_size, self.layout)

    def _record(self, weight: Tensor) -> None:
        """Remember the dtype and device in an empty buffer, which follows `.to` and `.half`."""
        self.register_buffer("compute", weight.new_empty(0).detach(), persistent=False)


def _tensor(module: nn.Module, name: str) -> Tensor | None:
    """Read a tensor that torch's own quantised layers offer as a method."""
    value = getattr(module, name, None)
    if callable(value):
        value = value()
    return value if isinstance(value, Tensor) else None
