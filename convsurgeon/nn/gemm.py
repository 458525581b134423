"""Convolutions computed as one matrix product, that stay convolutions to everyone who looks.

Weight, bias, state dict, attributes and `isinstance` are those of the convolution; only `forward`
differs. Checkpoints, optimisers and adapters made for the convolution go on working, and
quantisers of linear layers do not see the layer. `PatchLinear` is the other kind.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

import torch.fx
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documentation uses
from torch import nn
from torch.nn.modules.conv import _ConvNd

from convsurgeon.nn.exact import inexact, refuse_unless_exact
from convsurgeon.nn.patches import check_features, to_map, to_tokens
from convsurgeon.rearrangement import CHANNEL_FIRST

if TYPE_CHECKING:
    from torch import Tensor

# Leaves of a symbolic trace, as torch's own convolutions are: they compare sizes, which a trace
# cannot follow.
for _leaf in ("to_tokens", "check_features", "to_map"):
    torch.fx.wrap(_leaf)

_Conv = TypeVar("_Conv", bound=_ConvNd)


class _GemmConv(_ConvNd):
    """What the three classes share.

    The constructor takes what that of the convolution takes, in its order: adapters make a second,
    narrower layer by `type(layer)(...)`.

    Args:
        in_channels: C.
        out_channels: O.
        kernel_size: one number, or one per axis.
        stride: as the kernel, which is the default.
        padding: 0, in any spelling.
        dilation: 1 along each axis where the kernel is longer than 1.
        groups: 1.
        bias: whether there is one.
        padding_mode: what to pad with, hence without effect.
        device: where the parameters are.
        dtype: of the parameters.

    Raises:
        ValueError: this geometry is not that of patches side by side.
    """

    conv_type: ClassVar[type[_ConvNd]]

    def __init__(  # noqa: PLR0913, PLR0917 - those of nn.ConvNd
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] | None = None,
        padding: str | int | tuple[int, ...] = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        # The next class in line is nn.ConvNd, which fills in most of what _ConvNd asks for.
        init: Any = super().__init__
        geometry = (kernel_size if stride is None else stride, padding, dilation, groups)
        init(in_channels, out_channels, kernel_size, *geometry, bias, padding_mode, device, dtype)
        reason = inexact(self)
        if reason is not None:
            raise ValueError(f"no {type(self).__name__} can compute this: {reason}")

    @classmethod
    def from_conv(cls, conv: nn.Module) -> Self:
        """Take over a convolution: the very same parameters, every attribute, the training flag.

        Raises:
            ValueError: `conv` is not exactly of the matching torch class, has stride != kernel,
                padding, dilation or groups, a weight computed from other tensors, or hooks.
        """
        return _with_class(refuse_unless_exact(conv, cls.conv_type), cls)

    def to_conv(self) -> _ConvNd:
        """Give back the plain convolution, with the very same parameters and attributes."""
        return _with_class(self, self.conv_type)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - callers may use torch's name
        """Map `[B, C, *spatial]` (or unbatched `[C, *spatial]`) to `[B, O, *grid]` (`[O, *grid]`).

        The result is a view in channels-last memory order, whatever the input's: `flatten(2)` and
        `transpose` are free, a `view` that merges channels with space needs `reshape`.

        Raises:
            RuntimeError: as the convolution does, for a wrong number of axes or channels, or an
                input smaller than the kernel; and where an attribute was changed since, so that
                the layer is no longer exact (some scripts set a smaller `stride`).
        """
        reason = inexact(self)
        if reason is not None:
            raise RuntimeError(f"{type(self).__name__} cannot compute this: {reason}; use to_conv")
        tokens = to_tokens(input, self.in_channels, self.kernel_size, CHANNEL_FIRST)
        return to_map(self.forward_patches(tokens), input, self.kernel_size)

    def forward_patches(self, patches: Tensor) -> Tensor:
        """Map patches that were cut already, channel first ("c p1 p2", see `patchify`).

        Shapes: `[..., C * prod(kernel)]` to `[..., O]`.

        Raises:
            RuntimeError: for a wrong number of features.
        """
        check_features(patches, self.in_channels, self.kernel_size)
        # flatten is a view of a contiguous weight, and a copy of a channels-last one.
        return F.linear(patches, self.weight.flatten(1), self.bias)


class GemmConv1d(_GemmConv, nn.Conv1d):
    """An nn.Conv1d with stride == kernel, as one product: `[B, C, L]` to `[B, O, L // k]`."""

    conv_type = nn.Conv1d


class GemmConv2d(_GemmConv, nn.Conv2d):
    """An nn.Conv2d with stride == kernel, as one product: `[B, C, H, W]` to `[B, O, gh, gw]`."""

    conv_type = nn.Conv2d


class GemmConv3d(_GemmConv, nn.Conv3d):
    """An nn.Conv3d with stride == kernel: `[B, C, T, H, W]` to `[B, O, gt, gh, gw]`."""

    conv_type = nn.Conv3d


def _with_class(conv: _ConvNd, cls: type[_Conv]) -> _Conv:
    """Make a module of another class with the same content.

    The tables of parameters and hooks are copied, so that what is registered on one module later
    does not appear on the other; the parameters themselves are shared.
    """
    new = cls.__new__(cls)
    state = vars(conv).items()
    vars(new).update({key: v.copy() if isinstance(v, dict) else v for key, v in state})
    return new
