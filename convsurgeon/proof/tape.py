"""The tensors of one forward, and how far those of other forwards are from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from convsurgeon.proof.drift import Drift
from convsurgeon.proof.gaps import difference, last_place, magnitude, objection, response
from convsurgeon.proof.watch import Place

if TYPE_CHECKING:
    from torch import Tensor

_FEWER = "the swapped model returns no such tensor, or calls the module less often"
_MORE = "the swapped model returns more than the original, or calls the module more often"


@dataclass(slots=True)
class Tape:
    """What the original computed on the unchanged input.

    Only that is kept, as a copy; whatever other forwards compute is compared while they run.

    Attributes:
        kept: every tensor of the first forward, in the order of the calls.
        noise: how far a second forward on the very same input is from it.
        yardstick: how far forwards on moved inputs are from it, the noise included.
        found: how far the swapped model's tensor is from it, and what else is wrong with it.
        more: places that only the swapped model has.
    """

    kept: dict[Place, Tensor] = field(default_factory=dict)
    noise: dict[Place, float] = field(default_factory=dict)
    yardstick: dict[Place, float] = field(default_factory=dict)
    found: dict[Place, tuple[float, str]] = field(default_factory=dict)
    more: list[Place] = field(default_factory=list)

    def keep(self, place: Place, tensor: Tensor) -> None:
        """Take a tensor of the first forward."""
        self.kept[place] = tensor.detach().clone()

    def repeat(self, place: Place, tensor: Tensor) -> None:
        """Take a tensor of the second forward on the same input."""
        if place in self.kept:
            self.noise[place] = response(self.kept[place], tensor)
        self.move(place, tensor)

    def move(self, place: Place, tensor: Tensor) -> None:
        """Take a tensor of a forward on a moved input."""
        if place in self.kept:
            before = self.yardstick.get(place, 0.0)
            self.yardstick[place] = max(before, response(self.kept[place], tensor))

    def hold(self, place: Place, tensor: Tensor) -> None:
        """Take a tensor of the swapped model."""
        kept = self.kept.get(place)
        if kept is None:
            self.more.append(place)
            return
        same = kept.shape == tensor.shape
        gap = difference(kept, tensor) if same else float("inf")
        self.found[place] = gap, objection(kept, tensor)

    def drifts(self, allowed: float) -> tuple[tuple[Drift, ...], tuple[Drift, ...]]:
        """Return every output, and of each layer the tensor that drifts furthest.

        Args:
            allowed: how many yardsticks each of them may drift.
        """
        layers: dict[str, Drift] = {}
        outputs = []
        for place in (*self.kept, *self.more):
            drift = replace(self._drift(place), allowed=allowed)
            if not place.module:
                outputs.append(drift)
            elif place.module not in layers or _rank(drift) > _rank(layers[place.module]):
                layers[place.module] = drift
        return tuple(outputs), tuple(layers.values())

    def noisy(self) -> Iterator[tuple[str, float]]:
        """Yield the outputs that differ between two forwards on one input, and by how much."""
        for place, gap in self.noise.items():
            if gap and not place.module:
                yield place.leaf, gap

    def _drift(self, place: Place) -> Drift:
        name = place.module or place.leaf
        kept = self.kept.get(place)
        if kept is None:
            return Drift(name, (), float("inf"), 0.0, 0.0, _MORE)
        gap, note = self.found.get(place, (float("inf"), _FEWER))
        # No output can be told apart more finely than its own numbers are.
        yardstick = max(self.yardstick.get(place, 0.0), last_place(kept))
        return Drift(name, tuple(kept.shape), gap, yardstick, magnitude(kept), note)


def _rank(drift: Drift) -> tuple[bool, float, float]:
    return bool(drift.note), drift.ratio, drift.difference
