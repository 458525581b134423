"""A wide linear layer as several convolutions of one position, for devices with a limit.

Neural engines take only so many channels: 16384 on some, which the head of a language model
exceeds several times. Each output is still one sum over all inputs, so nothing is computed
differently: the outputs are cut into ranges, and each range is a convolution of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, cast

import torch
from torch import Tensor, nn

from convsurgeon.nn.exact import refuse_unless_plain
from convsurgeon.nn.patches import MAX_DIMS
from convsurgeon.nn.positions import INPUTS, at_positions

if TYPE_CHECKING:
    from convsurgeon.nn.conv import Input

_CONVS: dict[int, type[nn.Conv1d | nn.Conv2d | nn.Conv3d]] = {
    1: nn.Conv1d,
    2: nn.Conv2d,
    3: nn.Conv3d,
}


class SplitConv(nn.Module):
    """A linear layer as convolutions of one position, each with at most `max_channels` outputs.

    State dict: `parts.0.weight` `[max_channels, C, 1, 1]`, `parts.0.bias` `[max_channels]`, and so
    on; the last part holds the rest. In the order of their numbers they are the linear layer's
    rows.

    Args:
        in_channels: C.
        out_channels: O.
        max_channels: outputs of one part.
        axes: of positions, 1 to 3.
        input: "flat", "map" or "view", as of `FlatConv2d`.
        bias: whether there is one.
        device: where the parameters are.
        dtype: of the parameters.

    Attributes:
        parts: the convolutions, torch's own.

    Raises:
        ValueError: `input` is unknown, there are not 1 to 3 axes, or `max_channels` is below 1.
    """

    def __init__(  # noqa: PLR0913 - those of nn.Conv2d that are free here, the limit, the input
        self,
        in_channels: int,
        out_channels: int,
        max_channels: int,
        axes: int = 2,
        *,
        input: Input = "flat",  # noqa: A002 - says what it is about
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if input not in INPUTS:
            raise ValueError(f"input must be one of {INPUTS}, not {input!r}")
        if not 1 <= axes <= MAX_DIMS or max_channels < 1:
            raise ValueError(f"no convolution has {axes} axes and {max_channels} channels")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.max_channels, self.axes, self.input = max_channels, axes, input
        sizes = [min(max_channels, out_channels - i) for i in range(0, out_channels, max_channels)]
        kind: Any = _CONVS[axes]
        self.parts = nn.ModuleList(
            kind(in_channels, size, 1, bias=bias, device=device, dtype=dtype) for size in sizes
        )

    @classmethod
    def from_linear(
        cls,
        linear: nn.Module,
        max_channels: int,
        axes: int = 2,
        *,
        input: Input = "flat",  # noqa: A002 - as in the constructor
    ) -> Self:
        """Take over a linear layer: bits, `requires_grad`, dtype, device, the training flag.

        Weights and biases are new parameters over the same storage.

        Args:
            linear: an nn.Linear.
            max_channels: as in the constructor.
            axes: as in the constructor.
            input: as in the constructor.

        Raises:
            ValueError: `linear` is not exactly nn.Linear, its weight is computed from other
                tensors, or it has hooks.
        """
        plain = refuse_unless_plain(linear, nn.Linear)
        has_bias = plain.bias is not None
        new = cls(
            *(plain.in_features, plain.out_features, max_channels, axes),
            input=input,
            bias=has_bias,
            device="meta",  # neither memory nor random numbers for what is replaced at once
        )
        weight, bias = plain.weight, plain.bias
        for part, rows in zip(new.convs, _cut(weight, max_channels), strict=True):
            columns = rows.reshape(*rows.shape, *(1,) * axes)
            part.weight = nn.Parameter(columns, requires_grad=weight.requires_grad)
        for part, rows in zip(new.convs if has_bias else (), _cut(bias, max_channels), strict=True):
            part.bias = nn.Parameter(rows, requires_grad=bias.requires_grad)
        return new.train(plain.training)

    def to_linear(self) -> nn.Linear:
        """Give back the plain linear layer, bit for bit; its tensors are copies.

        Raises:
            ValueError: a part is no longer a plain convolution, because it was quantised or wrapped
                by an adapter; parts came or went; or some take gradients and others do not.
        """
        first, *others = (refuse_unless_plain(part, _CONVS[self.axes]) for part in self.convs)
        outputs = sum(part.out_channels for part in (first, *others))
        if outputs != self.out_channels:
            raise ValueError(f"its parts have {outputs} outputs, not {self.out_channels}")
        linear = nn.Linear(self.in_channels, self.out_channels, first.bias is not None, "meta")
        for name in ("weight", "bias") if first.bias is not None else ("weight",):
            pieces = [getattr(part, name) for part in (first, *others)]
            if len({piece.requires_grad for piece in pieces}) > 1:
                raise ValueError(f"some parts of the {name} take gradients and others do not")
            whole = torch.cat([piece.detach() for piece in pieces])
            whole = whole.flatten(1) if name == "weight" else whole
            setattr(linear, name, nn.Parameter(whole, requires_grad=pieces[0].requires_grad))
        return linear.train(self.training)

    @property
    def convs(self) -> list[nn.Conv1d | nn.Conv2d | nn.Conv3d]:
        """The parts, as what they are."""
        return cast("list[nn.Conv1d | nn.Conv2d | nn.Conv3d]", list(self.parts))

    @property
    def weight(self) -> Tensor:
        """The whole weight `[O, C, 1, 1]`: a copy, so that writing to it reaches no part."""
        return torch.cat([part.weight for part in self.convs])

    @property
    def bias(self) -> Tensor | None:
        """The whole bias `[O]`, a copy; or None."""
        biases = [part.bias for part in self.convs if part.bias is not None]
        return torch.cat(biases) if biases else None

    @property
    def kernel_size(self) -> tuple[int, ...]:
        """1 along each axis."""
        return (1,) * self.axes

    @property
    def in_features(self) -> int:
        """C, what the linear layer takes."""
        return self.in_channels

    @property
    def out_features(self) -> int:
        """O."""
        return self.out_channels

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Apply every part to the same input, and put their outputs one behind the other.

        Shapes: `[..., C]` to `[..., O]` for "flat" and "view", `[B, C, *positions]` to
        `[B, O, *positions]` for "map".

        Raises:
            RuntimeError: a wrong number of features or channels.
        """
        return at_positions(self._convolve, input, self.in_channels, self.axes, self.input)

    def extra_repr(self) -> str:
        """Show the sizes, and what the input is."""
        return (
            f"{self.in_channels}, {self.out_channels}, max_channels={self.max_channels}, "
            f"input={self.input!r}"
        )

    def _convolve(self, maps: Tensor) -> Tensor:
        return torch.cat([part(maps) for part in self.parts], dim=-1 - self.axes)


def _cut(whole: Tensor | None, size: int) -> tuple[Tensor, ...]:
    return () if whole is None else torch.split(whole.detach(), size)
