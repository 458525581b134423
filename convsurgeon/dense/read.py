"""From a model and the shape of an image to the plan of a fully convolutional network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from convsurgeon.dense.calls import Call, ancestors, shape_of
from convsurgeon.dense.head import Head, read_head
from convsurgeon.dense.reach import reach
from convsurgeon.dense.sizes import growth
from convsurgeon.dense.trace import Traced, trace
from convsurgeon.dense.values import UntraceableError
from convsurgeon.plan.dense import DensePlan, Obstacle
from convsurgeon.sources.builders.guard import quiet

_DROPOUTS = ("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout")


@dataclass(frozen=True, eq=False, slots=True)
class Reading:
    """A plan, with what it was made from.

    Attributes:
        plan: of the whole conversion.
        traced: the forward; None where it cannot be followed.
        doubts: the Linears of the head whose input is not known to be a flattened map, with why.
    """

    plan: DensePlan
    traced: Traced | None
    doubts: Mapping[str, Obstacle] = field(default_factory=dict)


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
        head = replace(head, obstacles=(*_hooks(model), *head.obstacles))
        made = _planned(plan, traced, head)
        return Reading(made, traced, {**_reordered(made), **head.doubts})


def _planned(plan: DensePlan, traced: Traced, head: Head) -> DensePlan:
    if head.source is None:
        return _refused(plan, head.obstacles)
    if len(shape_of(head.source)) != len(shape_of(traced.image)):
        return replace(plan, steps=head.steps, obstacles=head.obstacles)
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
        notes=tuple(_notes(traced)),
    )


def _hooks(model: nn.Module) -> Iterator[Obstacle]:
    """Yield what would be lost of the model as a whole: its hooks are no part of its forward."""
    names = [name for name, value in vars(model).items() if name.endswith("_hooks") and value]
    if names:
        yield Obstacle("", "CS024", f"the model has {', '.join(names)}, which would be lost")


def _notes(traced: Traced) -> Iterator[str]:
    """Yield what the graph of a forward cannot do."""
    functions = (node for node in traced.graph.nodes if node.op == "call_function")
    if any(Call.of(node, traced.model).name in _DROPOUTS for node in functions):
        yield "dropout that the forward calls itself stays off; nn.Dropout follows train()"


def _reordered(plan: DensePlan) -> dict[str, Obstacle]:
    """Doubt every Linear where what is flattened is no map in its own order."""
    found = next((one for one in plan.obstacles if one.code == "CS053"), None)
    return {step.module: found for step in plan.convs} if found else {}


def _refused(plan: DensePlan, obstacles: tuple[Obstacle, ...]) -> DensePlan:
    return replace(plan, obstacles=obstacles)
