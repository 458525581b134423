"""From a model and the shape of an image to the plan of a fully convolutional network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from convsurgeon.dense.calls import shape_of
from convsurgeon.dense.head import Head, read_head
from convsurgeon.dense.reach import reach
from convsurgeon.dense.sizes import ancestors, growth
from convsurgeon.dense.trace import Traced, trace
from convsurgeon.dense.values import UntraceableError
from convsurgeon.plan.dense import DensePlan, Obstacle
from convsurgeon.sources.builders.guard import quiet


@dataclass(frozen=True, eq=False, slots=True)
class Reading:
    """A plan, with the graph that it is about; None where the forward cannot be followed."""

    plan: DensePlan
    traced: Traced | None


def read(
    model: nn.Module, shape: tuple[int, ...], dtype: torch.dtype, *, behind: bool = False
) -> Reading:
    """Follow a forward, and decide what becomes of its head.

    Args:
        model: stays as it is.
        shape: `[B, C, *spatial]` of images of the native size.
        dtype: of them.
        behind: whether a global average pool may be moved behind the last Linear.
    """
    plan = DensePlan(type(model).__name__, tuple(shape[1:]))
    with quiet():  # torch logs whatever an operation refuses
        try:
            traced = trace(model, tuple(shape), dtype)
        except UntraceableError as error:
            return Reading(_refused(plan, (Obstacle("", "CS056", str(error)),)), None)
        head = read_head(traced, behind=behind)
        return Reading(_planned(plan, traced, head), traced)


def _planned(plan: DensePlan, traced: Traced, head: Head) -> DensePlan:
    if head.source is None:
        return _refused(plan, head.obstacles)
    if len(shape_of(head.source)) != len(shape_of(traced.image)):
        return _refused(plan, head.obstacles)
    grown = growth(traced, head.source)
    seen = reach(traced, head.source, ancestors(head.source))
    field = seen.field
    if field is not None and grown.stride and not head.averaged:
        spans = zip(field, grown.stride, head.size, strict=True)
        field = tuple(f + s * (size - 1) for f, s, size in spans)
    return DensePlan(
        model=plan.model,
        image=plan.image,
        map=(shape_of(head.source)[1], *head.size),
        stride=grown.stride,
        field=field,
        steps=head.steps,
        borders=seen.borders,
        pool="behind" if head.averaged else "",
        obstacles=(*head.obstacles, *grown.obstacles),
    )


def _refused(plan: DensePlan, obstacles: tuple[Obstacle, ...]) -> DensePlan:
    return DensePlan(plan.model, plan.image, obstacles=obstacles)
