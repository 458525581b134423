"""Where convolutions of one position have their channels, as callers of `swap_module` choose it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from convsurgeon.errors import UsageError

if TYPE_CHECKING:
    from convsurgeon.nn.conv import Input

_KINDS: dict[bool | str, Input] = {False: "flat", True: "map", "memory": "view"}


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
    def of(cls, first: object, limit: object, axes: int) -> Self:
        """Check the keywords `channels_first` and `max_channels`.

        Args:
            first: False, True or "memory".
            limit: at least 1, or None.
            axes: of the kernel that `method` asks for; 0 where that is the input's size.

        Raises:
            UsageError: CS090.
        """
        kind = _KINDS.get(first) if isinstance(first, (bool, str)) else None
        if kind is None:
            text = f"{first!r} is none of False, True, 'memory'"
            raise UsageError("CS090", text, where="channels_first")
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
