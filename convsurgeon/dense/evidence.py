"""What a traced forward states about Linears: of which map their input was flattened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from convsurgeon.dense.read import Reading
from convsurgeon.evidence import Statement
from convsurgeon.geometry import LINEAR, Geometry, Refusal, times
from convsurgeon.plan.dense import HeadStep, Obstacle
from convsurgeon.sources.model import Layer, ModelSpeaker

_OF_INPUT = ("CS016", "CS053", "CS054")
"""Codes of what the trace alone knows; that a layer is of another class, its speaker says."""
_STRANGER = Refusal("CS028", "it is no part of the head that was traced")


def with_splits(speaker: ModelSpeaker, reading: Reading, *, only: bool) -> ModelSpeaker:
    """Return a speaker that knows the input of each Linear of the head as well.

    Args:
        speaker: of the same model.
        reading: of its forward.
        only: whether every other Linear is to be refused, rather than left undecided.
    """
    steps = {step.module: step for step in reading.plan.convs}
    own = {one.place: one for one in reading.plan.obstacles if one.code in _OF_INPUT}
    source = f"{speaker.source}, traced at {times(reading.plan.image)}"
    layers = {}
    for name, layer in speaker.layers.items():
        told = layer.statement
        if told.form == LINEAR and not told.refusal:
            told = replace(told, source=source)
            told = _told(told, steps.get(name), _doubt(name, own, reading.doubts), only=only)
        layers[name] = Layer(told, layer.shape)
    notes = [speaker.note] if speaker.note else []
    notes += [str(one) for one in reading.plan.obstacles if not one.place and not only]
    return replace(speaker, layers=layers, note="; ".join(notes))


def _doubt(
    name: str, own: Mapping[str, Obstacle], doubts: Mapping[str, Obstacle]
) -> Refusal | None:
    if name in own:
        return Refusal(own[name].code, own[name].reason)
    if name in doubts:
        found = doubts[name]
        return Refusal(found.code, f"{found.place}: {found.reason}".removeprefix(": "))
    return None


def _told(
    told: Statement, step: HeadStep | None, doubt: Refusal | None, *, only: bool
) -> Statement:
    if doubt is not None:
        return replace(told, refusal=doubt)
    if step is None:
        return replace(told, refusal=_STRANGER) if only else told
    kernel = step.weight_shape[2:]
    geometry = Geometry.plain(kernel, (1,) * len(kernel))
    return replace(told, geometry=geometry, details=(str(step),))
