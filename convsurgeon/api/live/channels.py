"""Where convolutions of one position have their channels, as callers of `swap_module` choose it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypedDict

from convsurgeon.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from convsurgeon.nn.conv import Input

_KINDS: dict[bool | str, Input] = {False: "flat", True: "map", "memory": "view"}


class ToConv(TypedDict, total=False):
    """Keywords of `swap_module` for `to="conv"`.

    Attributes:
        input_shape: see `Choices`.
        example_input: images `[B, C, *spatial]` of the shape that the model takes. Its forward is
            followed, and says of which map each input was flattened; `input_shape` goes first.
        method: see `Choices`.
        channels_first: for `method="1x1"`, what each new layer takes and gives. False (default):
            rows `[..., C]`, as before. True: maps `[B, C, *positions]`, for models whose own code
            has the channels first. `"memory"`: rows that are a view of such maps, for models whose
            code has rows. Unless False, layer norms follow.
        max_channels: for `method="1x1"`, the most channels of one convolution: a Linear with more
            outputs becomes a `SplitConv`, one with more inputs stays (CS087). Default: no limit.
        untie: whether a layer whose weight something else uses too, as an embedding does, gets a
            copy of its own. False (default): it stays (CS016).
    """

    input_shape: Sequence[str]
    example_input: Tensor
    method: str
    channels_first: bool | str
    max_channels: int | None
    untie: bool


@dataclass(frozen=True, slots=True)
class Channels:
    """The choice, in the words of the drop-ins.

    Attributes:
        input: what a drop-in takes and gives; see `FlatConv2d`.
        limit: how many channels a device takes; None without a limit.
        axes: of positions, where `input` is not "flat".
    """

    input: Input = "flat"
    limit: int | None = None
    axes: int = 0

    @classmethod
    def of(cls, choices: ToConv, axes: int) -> Self:
        """Check the keywords.

        Args:
            choices: as the caller gave them.
            axes: of the kernel that `method` asks for; 0 where that is the input's size.

        Raises:
            UsageError: CS090.
        """
        first: object = choices.get("channels_first", False)
        kind = _KINDS.get(first) if isinstance(first, (bool, str)) else None
        if kind is None:
            text = f"{first!r} is none of False, True, 'memory'"
            raise UsageError("CS090", text, where="channels_first")
        limit: object = choices.get("max_channels")
        number = limit if isinstance(limit, int) and not isinstance(limit, bool) else 0
        if limit is not None and number < 1:
            raise UsageError("CS090", f"{limit!r} is no number of channels", where="max_channels")
        given = {"channels_first": bool(first), "max_channels": limit is not None}
        if any(given.values()) and not axes:
            name = next(name for name, there in given.items() if there)
            raise UsageError("CS090", "it goes with to='conv', method='1x1'", where=name)
        return cls(kind, number or None, axes if first else 0)

    @property
    def note(self) -> str:
        """What the plan says of it; empty for rows."""
        if self.input == "map":
            return (
                "channels first: each takes and gives [B, C, *positions], which the code that "
                "calls it has to give"
            )
        if self.input == "view":
            return "channels first in memory: each gives rows that are a view of [B, C, *positions]"
        return ""


ROWS = Channels()
