"""What `swap_module` does to a layer: each way one row.

Imported by `swap_module` alone, with torch at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from convsurgeon.api.choices import Request
from convsurgeon.api.live.channels import ROWS, Channels
from convsurgeon.api.live.exchange import Built, Wanted, attach, build
from convsurgeon.api.live.keeping import Origin, bare, carry, held, note_origin
from convsurgeon.api.live.norms import Norms
from convsurgeon.api.live.objections import (
    NEW_WEIGHT,
    SAME_PARAMETERS,
    STANDING,
    Objection,
    cut_at,
    read_by_parent,
    taken_by,
)
from convsurgeon.api.live.scene import Scene
from convsurgeon.api.live.survey import FLAT_CONVS, GEMM_CONVS, Hear, Survey
from convsurgeon.api.live.together import all_or_none
from convsurgeon.nn import PatchLinear, SplitConv
from convsurgeon.plan import FilePlan, LayerPlan, Verdict
from convsurgeon.rules import Rewrite

if TYPE_CHECKING:
    from torch import nn

Where = Callable[[str, "nn.Module"], bool]


@dataclass(frozen=True, slots=True)
class Operation:
    """A way to put another module in place of a layer.

    Attributes:
        make: builds it, from the layer and what the plan says of it.
        objections: what is asked before.
        note: what the plan tells about it as a whole.
    """

    make: Callable[[nn.Module, Rewrite], nn.Module]
    objections: tuple[Objection, ...]
    note: str


def _gemm(layer: nn.Module, rewrite: Rewrite) -> nn.Module:
    from torch import nn

    axes = len(rewrite.arrangement.source) - 2
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
    return GEMM_CONVS[axes - 1].from_conv(bare(layer, kind))


def _patch_linear(layer: nn.Module, rewrite: Rewrite) -> nn.Module:
    from torch import nn

    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(rewrite.arrangement.source) - 3]
    return PatchLinear.from_conv(bare(layer, kind), rewrite.layout)


def _flat_conv(layer: nn.Module, rewrite: Rewrite, channels: Channels = ROWS) -> nn.Module:
    from torch import nn

    outputs, inputs, *kernel = rewrite.weight_shape
    plain, axes = bare(layer, nn.Linear), len(kernel)
    if channels.limit is not None and outputs > channels.limit:
        return SplitConv.from_linear(plain, channels.limit, axes, input=channels.input)
    flat_conv = FLAT_CONVS[axes - 1]
    return flat_conv.from_linear(plain, inputs, tuple(kernel), input=channels.input)


_RETIED = (
    "untied: a library that ties weights by itself has to be told that these are two now "
    "(transformers: config.tie_word_embeddings = False)"
)
_RENEWED = "optimisers made before hold the old parameters: make them again"
OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("linear", "gemm"): Operation(
        _gemm,
        (*STANDING, *SAME_PARAMETERS),
        "gemm: parameters, state dict and checkpoints stay as they were",
    ),
    ("linear", "linear"): Operation(
        _patch_linear,
        (*STANDING, *NEW_WEIGHT, taken_by(PatchLinear)),
        "linear: each weight is now linear.weight of its module, and tools that look for nn.Linear "
        f"find as many layers more; {_RENEWED}",
    ),
    ("conv", "linear"): Operation(
        _flat_conv,
        (*STANDING, read_by_parent, *NEW_WEIGHT, taken_by(FLAT_CONVS[0])),
        f"conv: each weight has the shape of a convolution's; {_RENEWED}",
    ),
}
"""What becomes of a layer, and the kind of drop-in -> how."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done to a model.

    Attributes:
        request: which layers become what.
        kind: of drop-in.
        where: asked before a layer is replaced.
        channels: where the replaced layers have theirs, and how many.
        hear: what the model says about its layers -> what it says with more knowledge.
    """

    request: Request
    kind: str
    where: Where
    channels: Channels = ROWS
    hear: Hear | None = None

    @property
    def operation(self) -> Operation:
        """How it is done."""
        plain, limit = OPERATIONS[self.request.wish.to, self.kind], self.channels.limit
        if self.channels == ROWS:
            return plain
        return Operation(
            partial(_flat_conv, channels=self.channels),
            (*plain.objections, *([] if limit is None else [cut_at(limit)])),
            "; ".join(filter(None, (plain.note, self.channels.note))),
        )


def perform(model: nn.Module, order: Order) -> FilePlan:
    """Plan a model, build every drop-in, and put all of them in place, or none.

    Returns:
        The plan; where a layer has a rewrite, its drop-in stands there now.
    """
    survey = Survey.of(model)
    plan = _chosen(survey.plan(order.request, order.hear), survey, order.where)
    asked: dict[int, Wanted] = {}
    operation = order.operation
    for row in plan.layers:
        if row.rewrite:
            module = survey.modules[row.module]
            asked[id(module)] = wanted(module, row.rewrite, operation)
    norms = Norms.of(survey, order.channels, order.where) if asked else Norms({})
    built = build((*asked.values(), *norms.wanted()), Scene(model), untie=order.request.untie)
    new = {id(change.old): change.new for change in built.changes}
    rows = tuple(
        _outcome(row, id(survey.modules.get(row.module)), built, new) for row in plan.layers
    )
    together = order.channels.input == "map" and all_or_none(
        rows, norms, built, survey, order.where
    )
    if together:
        return replace(plan, layers=together)
    notes = [*plan.notes, *([operation.note] if built.changes else []), *norms.notes(built)]
    notes += [_RETIED] if built.untied else []
    done = replace(plan, layers=rows, notes=tuple(notes))
    attach(model, built.changes)
    return done


def _chosen(plan: FilePlan, survey: Survey, where: Where) -> FilePlan:
    """Leave out what the caller does not want; a module of two names is asked for under both."""
    unwanted: dict[int, str] = {}
    for row in plan.rewrites:
        module = survey.modules[row.module]
        if not where(row.module, module):
            unwanted.setdefault(id(module), row.module)
    rows = (
        _left_out(row, name)
        if row.rewrite and (name := unwanted.get(id(survey.modules[row.module]))) is not None
        else row
        for row in plan.layers
    )
    return replace(plan, layers=tuple(rows))


def _left_out(row: LayerPlan, name: str) -> LayerPlan:
    under = "" if name == row.module else f" under its name {name}"
    return replace(row, rewrite=None, reason=f"{row.reason}; left out by where{under}")


def wanted(module: nn.Module, rewrite: Rewrite, operation: Operation) -> Wanted:
    """Return a layer with what builds its drop-in, and keeps what the layer has beside weights."""

    def make(layer: nn.Module) -> nn.Module:
        new = operation.make(layer, rewrite)
        carry(layer, new)
        (weight,) = held(layer, "weight")
        if weight not in set(held(new, "weight")):
            note_origin(new, Origin.of(layer, weight))
        return new

    return Wanted(module, make, rewrite.arrangement, operation.objections, "CS007")


def _outcome(row: LayerPlan, place: int, built: Built, new: Mapping[int, nn.Module]) -> LayerPlan:
    if not row.rewrite:
        return row
    refusal = built.refused.get(place)
    if refusal is None:
        aloud = _said_aloud(new.get(place), built.untied.get(place))
        return replace(row, reason="; ".join((row.reason, *aloud)))
    code, reason = refusal.code, refusal.reason
    return replace(row, verdict=Verdict.REFUSED, code=code, reason=reason, rewrite=None)


def _said_aloud(new: nn.Module | None, tied: str | None) -> Iterator[str]:
    if isinstance(new, SplitConv):
        yield f"cut into {len(new.parts)} parts of at most {new.max_channels} outputs"
    if tied:
        yield f"untied, now a copy: {tied}"
