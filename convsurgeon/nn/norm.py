"""Layer normalisation over the channels of maps: what stands between channel-first convolutions.

`nn.LayerNorm` normalises the last axes and gives a contiguous result. Between layers whose channels
come first, in the axes or in memory, either would be wrong.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
import torch.fx
from torch import Tensor, nn

from convsurgeon.nn.exact import refuse_unless_plain
from convsurgeon.nn.patches import MAX_DIMS
from convsurgeon.nn.positions import to_maps, to_rows

# Leaves of a symbolic trace, as torch's own layers are.
for _leaf in ("normalised", "to_maps", "to_rows"):
    torch.fx.wrap(_leaf)

INPUTS = ("map", "view")
_HALF = 2  # bytes


class ChannelNorm(nn.LayerNorm):
    """An nn.LayerNorm over the channels of channel-first tensors.

    State dict and parameters are those of nn.LayerNorm.

    Args:
        channels: C.
        axes: how many positions' axes a map has, 1 to 3.
        input: "map" takes and gives `[B, C, *positions]`, batched or not. "view" takes rows
            `[..., C]` and gives rows that are a view of such a map, as `FlatConv2d` does.
        eps: added to the variance.
        elementwise_affine: whether there is a weight.
        bias: whether there is a bias too.
        device: where the parameters are.
        dtype: of the parameters.

    Raises:
        ValueError: `input` is none of the two, or there are not 1 to 3 axes.
    """

    def __init__(  # noqa: PLR0913 - those of nn.LayerNorm, the number of axes, the input's kind
        self,
        channels: int,
        axes: int = 2,
        *,
        input: Literal["map", "view"] = "map",  # noqa: A002 - says what it is about
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if input not in INPUTS:
            raise ValueError(f"input must be one of {INPUTS}, not {input!r}")
        if not 1 <= axes <= MAX_DIMS:
            raise ValueError(f"axes must be 1 to {MAX_DIMS}, not {axes}")
        super().__init__(channels, eps, elementwise_affine, bias, device, dtype)
        self.axes = axes
        self.input = input

    @classmethod
    def from_norm(
        cls,
        norm: nn.Module,
        axes: int = 2,
        *,
        input: Literal["map", "view"] = "map",  # noqa: A002 - as in the constructor
    ) -> Self:
        """Take over a layer norm over one axis: the very parameters, and the training flag.

        Args:
            norm: an nn.LayerNorm.
            axes: as in the constructor.
            input: as in the constructor.

        Raises:
            ValueError: `norm` is not exactly nn.LayerNorm, is parametrised, has hooks or a forward
                of its own, or normalises over several axes.
        """
        plain = refuse_unless_plain(norm, nn.LayerNorm)
        if len(plain.normalized_shape) != 1:
            raise ValueError(
                f"cannot replace this LayerNorm: it normalises {len(plain.normalized_shape)} axes"
            )
        new = cls(plain.normalized_shape[0], axes, input=input, eps=plain.eps, device="meta")
        new.elementwise_affine = plain.elementwise_affine
        new.weight, new.bias = plain.weight, plain.bias
        return new.train(plain.training)

    def to_norm(self) -> nn.LayerNorm:
        """Give back the plain layer norm, with the very parameters."""
        norm = nn.LayerNorm(self.normalized_shape, self.eps, device="meta")
        norm.elementwise_affine = self.elementwise_affine
        norm.weight, norm.bias = self.weight, self.bias
        return norm.train(self.training)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Normalise `[B, C, *positions]` (or `[C, *positions]`), or rows `[..., C]` for "view".

        Half-precision inputs are normalised in float32, as nn.LayerNorm does it.

        Raises:
            RuntimeError: a wrong number of axes or channels.
        """
        channels, view = self.normalized_shape[0], self.input == "view"
        maps = to_maps(input, channels, self.axes).contiguous() if view else input
        out = normalised(maps, self.axes, channels, self.eps, self.weight, self.bias)
        return to_rows(out, input) if view else out

    def extra_repr(self) -> str:
        """Show what a layer norm shows, and what the input is."""
        return f"{super().extra_repr()}, axes={self.axes}, input={self.input!r}"


def normalised(
    maps: Tensor, axes: int, channels: int, eps: float, weight: Tensor | None, bias: Tensor | None
) -> Tensor:
    """Normalise maps `[..., C, *positions]` over their channels, in the memory order they have.

    Raises:
        RuntimeError: a wrong number of axes or channels.
    """
    axis = -1 - axes
    # Without this check one channel would be spread over all of the weight's.
    if maps.dim() not in (axes + 1, axes + 2) or maps.shape[axis] != channels:
        raise RuntimeError(
            f"expected {channels} channels before {axes} axes of positions, "
            f"but got an input of size {list(maps.shape)}"
        )
    exact = maps.float() if maps.element_size() == _HALF else maps
    variance, mean = torch.var_mean(exact, axis, correction=0, keepdim=True)
    out = (exact - mean) * torch.rsqrt(variance + eps)
    spread = (channels, *(1,) * axes)
    if weight is not None:
        out = out * weight.reshape(spread)
    if bias is not None:
        out = out + bias.reshape(spread)
    return out.to(maps.dtype)
