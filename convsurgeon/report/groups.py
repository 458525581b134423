"""Layers that differ in their block number only are shown once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convsurgeon.plan import LayerPlan
from convsurgeon.report.words import folded, pattern

if TYPE_CHECKING:
    from convsurgeon.proof import LayerVerdict


@dataclass(frozen=True, slots=True)
class Group:
    """Layers that are alike in everything but the numbers in their names."""

    layers: tuple[LayerPlan, ...]

    @property
    def first(self) -> LayerPlan:
        """The one that stands for all."""
        return self.layers[0]

    @property
    def name(self) -> str:
        """All names as one: `blocks.{0…11}.conv`."""
        return folded(layer.module for layer in self.layers)

    def verdicts(self, verdicts: Iterable[LayerVerdict]) -> tuple[LayerVerdict, ...]:
        """Return what was proved about these layers."""
        keys = {layer.key for layer in self.layers}
        return tuple(verdict for verdict in verdicts if verdict.key in keys)


def alike(verdicts: Iterable[LayerVerdict]) -> tuple[tuple[LayerVerdict, ...], ...]:
    """Group what was proved about layers that differ in their numbers; each refutation is alone."""
    groups: dict[tuple[object, ...], list[LayerVerdict]] = {}
    for verdict in verdicts:
        name = pattern(verdict.key) if verdict.equivalent else verdict.key
        groups.setdefault((name, verdict.forms, verdict.shapes, verdict.given), []).append(verdict)
    return tuple(map(tuple, groups.values()))


def grouped(layers: Iterable[LayerPlan]) -> tuple[Group, ...]:
    """Group layers, in the order of the first of each group."""
    groups: dict[tuple[object, ...], list[LayerPlan]] = {}
    for layer in layers:
        rewrite = layer.rewrite and (layer.rewrite.rule, layer.rewrite.weight_shape)
        form = (layer.form, layer.weight_shape, layer.dtype, layer.geometry, layer.evidence)
        outcome = (layer.verdict, layer.code, layer.reason, rewrite, layer.heard)
        # No number in the hint may differ either, or it could not be pasted for all.
        groups.setdefault((pattern(layer.key), *form, *outcome), []).append(layer)
    return tuple(Group(tuple(members)) for members in groups.values())
