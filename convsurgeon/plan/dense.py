"""The plan of a classifier that becomes fully convolutional: a frozen, printable value."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from convsurgeon.geometry import Refusal, times
from convsurgeon.untrusted import safe

CONV, NORM, DROP, AXIS, KEEP = "conv", "norm", "drop", "axis", "keep"
"""What can become of an operation; see `HeadStep`."""


@dataclass(frozen=True, slots=True)
class HeadStep:
    """One operation of the head.

    Attributes:
        node: its name in the graph of the forward.
        module: the module that does it; empty for a function.
        action: `conv` (a Linear becomes a convolution), `norm` (a normalisation of rows becomes
            that of maps), `drop` (it does nothing to maps), `axis` (it goes along the channels
            from now on), or `keep`.
        before: what it is.
        after: what it becomes.
        weight_shape: `[O, C, *kernel]` of a convolution; empty for everything else.
    """

    node: str
    module: str
    action: str
    before: str
    after: str
    weight_shape: tuple[int, ...] = ()

    def __str__(self) -> str:
        """Return the step in one line."""
        return f"{self.module or self.node}: {self.before} -> {self.after}"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Something in the model that stands against the whole conversion.

    Attributes:
        place: the module or the operation.
        code: of the refusal.
        reason: one clause.
    """

    place: str
    code: str
    reason: str

    @classmethod
    def of(cls, place: str, refusal: Refusal) -> Obstacle:
        """Say where a refusal belongs."""
        return cls(place, refusal.code, refusal.reason)

    def __str__(self) -> str:
        """Return it in one line."""
        place = f"{self.place}: " if self.place else ""
        return f"{place}{self.reason} [{self.code}]"


@dataclass(frozen=True, slots=True)
class DensePlan:
    """What becomes of a classifier, or why nothing does.

    Attributes:
        model: the class of the model.
        image: `[C, *spatial]` of the images that it was traced on: its native size.
        map: `[C, *spatial]` of the map that is flattened, at that size; empty where there is none.
        stride: how many pixels the windows of two neighbouring cells are apart, along each axis.
        field: how many pixels one cell sees along each axis; None where something in front of the
            head sees the whole image, or is not known well enough.
        steps: every operation of the head, in the order of the forward.
        borders: what in front of the head looks past the border of its input, or at the whole
            image, so that a crop is not seen as the same place in a larger image.
        pool: `behind` where a global average pool was moved behind the last Linear.
        obstacles: everything that stands against it; nothing is done unless it is empty.
        notes: what should be known although it stopped nothing.
    """

    model: str
    image: tuple[int, ...]
    map: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    field: tuple[int, ...] | None = None
    steps: tuple[HeadStep, ...] = ()
    borders: tuple[str, ...] = ()
    pool: str = ""
    obstacles: tuple[Obstacle, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def convs(self) -> tuple[HeadStep, ...]:
        """The Linears that become convolutions."""
        return tuple(step for step in self.steps if step.action == CONV)

    @property
    def possible(self) -> bool:
        """Whether nothing stands against it."""
        return not self.obstacles

    def __str__(self) -> str:
        """Return the plan as text: a line for each step, obstacle and note."""
        lines = [f"{self.model} at {times(self.image)}", *(f"  {step}" for step in self.steps)]
        if self.possible:
            lines.append(f"  {self.geometry()}")
        if self.borders and not self.pool:
            more = f", and {len(self.borders) - 1} more" if self.borders[1:] else ""
            lines.append(f"  crops differ: {self.borders[0]}{more}")
        lines += [f"  note: {text}" for text in self.notes]
        lines += [f"  refused: {obstacle}" for obstacle in self.obstacles]
        return "\n".join(map(safe, lines))

    def geometry(self) -> str:
        """Say where the cells of the map lie."""
        text = f"one cell at {times(self.image[1:])}, one more every {times(self.stride)} pixels"
        if self.pool:
            text = f"a map of {times(self.map[1:])} at {times(self.image[1:])}, "
            text += f"one cell every {times(self.stride)} pixels"
        return text if self.field is None else f"{text}; each sees {times(self.field)}"

    def to_json(self) -> dict[str, Any]:
        """Return it as an object of JSON."""
        return {**asdict(self), "possible": self.possible}
