"""What was found about a fully convolutional network: frozen values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from convsurgeon.proof.drift import Drift
from convsurgeon.proof.judged import Judged


@dataclass(frozen=True, slots=True)
class TensorBits:
    """One tensor of both state dicts.

    Attributes:
        name: of it.
        elements: how many there are.
        differing: how many are not equal bit for bit.
        note: what is wrong beside them; empty otherwise.
    """

    name: str
    elements: int
    differing: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of one image, each held against the original.

    Attributes:
        image: `[B, C, *spatial]`.
        cells: how many there are along each axis.
        outputs: how far each output is from the original's, over all cells.
        note: what is wrong beside numbers; empty otherwise.
    """

    image: tuple[int, ...]
    cells: tuple[int, ...]
    outputs: tuple[Drift, ...]
    note: str = ""

    @property
    def equal(self) -> bool:
        """Whether every output is no further off than rounding explains."""
        return not self.note and bool(self.outputs) and all(one.within for one in self.outputs)

    @property
    def difference(self) -> float:
        """The largest of all outputs."""
        return max((one.difference for one in self.outputs), default=0.0)

    def to_json(self) -> dict[str, Any]:
        """Return it as an object of JSON."""
        return {
            "image": list(self.image),
            "cells": list(self.cells),
            "equal": self.equal,
            "outputs": [one.to_json() for one in self.outputs],
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class DenseVerdict(Judged):
    """The verdict on a fully convolutional network. It must be looked at: `bool()` is an error.

    Attributes:
        bits: every tensor of the state dicts.
        cells: against the original head on windows of the original's feature map; one row for each
            image.
        crops: against the original network on crops of the image; with a pool moved behind, the
            mean over the map against the original on the same image.
        borders: what in front of the head makes crops differ. Where it is empty, they must be
            equal; otherwise their difference is told, and decides nothing.
        pooled: whether a global average pool was moved behind the head.
        seed: of the images.
    """

    bits: tuple[TensorBits, ...]
    cells: tuple[Cells, ...]
    crops: tuple[Cells, ...]
    borders: tuple[str, ...]
    pooled: bool
    seed: int

    @property
    def crops_count(self) -> bool:
        """Whether crops, or means, take part in the decision."""
        return self.pooled or not self.borders

    @property
    def equivalent(self) -> bool:
        """Whether nothing that must hold says no."""
        return not self.complaints and bool(self.cells)

    @property
    def complaints(self) -> tuple[str, ...]:
        """Everything that says no, one line each."""
        bits = [
            f"{one.name}: {one.note or f'{one.differing} of {one.elements} elements differ'}"
            for one in self.bits
            if one.differing
        ]
        rows = [("cells", one) for one in self.cells]
        if self.crops_count:
            rows += [("mean" if self.pooled else "crops", one) for one in self.crops]
        return (*bits, *(_complaint(what, one) for what, one in rows if not one.equal))

    def __str__(self) -> str:
        """Return a line for each of the three questions."""
        return "\n".join(self.lines())

    def lines(self) -> tuple[str, ...]:
        """Return what was found, one line for each question."""
        elements = sum(one.elements for one in self.bits)
        differing = sum(one.differing for one in self.bits)
        bits = f"bits: {elements - differing} of {elements} elements in {len(self.bits)} tensors"
        cells = f"cells: {_told(self.cells)}, each the original head on its window"
        if self.pooled:
            return bits, cells, f"mean over the map: {_told(self.crops)}, the original's own output"
        text = f"crops: {_told(self.crops)}"
        if self.crops_count:
            return bits, cells, f"{text}, each the original network on its crop"
        return bits, cells, f"{text} from the original on crops, which {self.borders[0]} explains"

    def to_json(self) -> dict[str, Any]:
        """Return it as an object of JSON."""
        return {
            "equivalent": self.equivalent,
            "bits": [asdict(one) for one in self.bits],
            "cells": [one.to_json() for one in self.cells],
            "crops": [one.to_json() for one in self.crops],
            "crops_count": self.crops_count,
            "borders": list(self.borders),
            "pooled": self.pooled,
            "seed": self.seed,
        }


def _complaint(what: str, one: Cells) -> str:
    size = "×".join(map(str, one.image[2:]))
    worst = max(one.outputs, key=lambda drift: drift.ratio, default=None)
    text = one.note or (worst.note if worst else "nothing was compared")
    if not text and worst:
        text = f"{worst.difference:.2g} off, {worst.ratio:.2g} yardsticks"
    return f"{what} at {size}: {text}"


def _told(rows: tuple[Cells, ...]) -> str:
    count = sum(_product(one.cells) * one.image[0] for one in rows)
    largest = max((one.difference for one in rows), default=0.0)
    return f"{count} within {largest:.1e}"


def _product(sizes: tuple[int, ...]) -> int:
    count = 1
    for size in sizes:
        count *= size
    return count
