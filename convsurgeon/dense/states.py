"""What a value of the head is: rows in the original, and what stands for them on maps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from torch import fx

from convsurgeon.geometry import Refusal
from convsurgeon.plan.dense import HeadStep


class Kind(StrEnum):
    """How a value of the original, one row for each image, relates to a map."""

    FLAT = "the flattened map"
    ROWS = "features"
    POOLED = "the mean of the map"
    SCORES = "what is linear in the mean of the map"


@dataclass(frozen=True, slots=True)
class State:
    """A value of the head.

    Attributes:
        kind: what it is.
        channels: of the map that stands for it.
        size: of the map that was flattened, at the native size.
        openers: the operations that it comes from: flattenings, or global pools.
    """

    kind: Kind
    channels: int
    size: tuple[int, ...]
    openers: frozenset[fx.Node]

    @property
    def features(self) -> int:
        """How many numbers one image has in the original."""
        count = self.channels
        for size in self.size if self.kind is Kind.FLAT else ():
            count *= size
        return count

    @property
    def averaged(self) -> bool:
        """Whether a mean over the map is still to be taken."""
        return self.kind in (Kind.POOLED, Kind.SCORES)

    def behind_linear(self, outputs: int) -> State:
        """Return what a Linear makes of it."""
        return replace(self, kind=Kind.SCORES if self.averaged else Kind.ROWS, channels=outputs)

    def like(self, other: State) -> bool:
        """Tell whether two values lie over the same map in the same way."""
        return (self.kind, self.channels, self.size) == (other.kind, other.channels, other.size)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of an operation.

    Attributes:
        step: for the plan.
        state: of its result.
    """

    step: HeadStep
    state: State


class NoHeadError(Exception):
    """The rows become something with more axes again: what opened them belongs to the trunk.

    Attributes:
        openers: what opened them.
        place: the operation that is no head's.
        refusal: what it would be, where nothing else is a head.
    """

    def __init__(self, state: State, place: str, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.openers, self.kind = state.openers, state.kind
        self.place, self.refusal = place, refusal
