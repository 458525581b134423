"""What `swap_module` does to a layer: each way one row.

Imported by `swap_module` alone, with torch at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from convsurgeon.api.choices import Request
from convsurgeon.api.live.exchange import Wanted, attach, build
from convsurgeon.api.live.keeping import Origin, bare, carry, note_origin, weight_of
from convsurgeon.api.live.objections import (
    NEW_WEIGHT,
    SAME_PARAMETERS,
    STANDING,
    Objection,
    read_by_parent,
    taken_by,
)
from convsurgeon.api.live.scene import Scene
from convsurgeon.api.live.survey import FLAT_CONVS, GEMM_CONVS, Survey
from convsurgeon.geometry import Refusal
from convsurgeon.nn import PatchLinear
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


def _flat_conv(layer: nn.Module, rewrite: Rewrite) -> nn.Module:
    from torch import nn

    _, channels, *kernel = rewrite.weight_shape
    kind = FLAT_CONVS[len(kernel) - 1]
    return kind.from_linear(bare(layer, nn.Linear), channels, tuple(kernel))


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


def perform(model: nn.Module, request: Request, operation: Operation, where: Where) -> FilePlan:
    """Plan a model, build every drop-in, and put all of them in place, or none.

    Returns:
        The plan; where a layer has a rewrite, its drop-in stands there now.
    """
    survey = Survey.of(model)
    plan = _chosen(survey.plan(request), survey, where)
    wanted: dict[int, Wanted] = {}
    for row in plan.layers:
        if row.rewrite:
            module = survey.modules[row.module]
            wanted[id(module)] = _wanted(module, row.rewrite, operation)
    changes, refused = build(tuple(wanted.values()), Scene(model))
    rows = tuple(_outcome(row, survey, refused) for row in plan.layers)
    notes = (*plan.notes, operation.note) if changes else plan.notes
    done = replace(plan, layers=rows, notes=notes)
    attach(model, changes)
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


def _wanted(module: nn.Module, rewrite: Rewrite, operation: Operation) -> Wanted:
    def make(layer: nn.Module) -> nn.Module:
        new = operation.make(layer, rewrite)
        carry(layer, new)
        if weight_of(new) is not weight_of(layer):
            note_origin(new, Origin.of(layer, weight_of(layer)))
        return new

    return Wanted(module, make, rewrite.arrangement, operation.objections, "CS007")


def _outcome(row: LayerPlan, survey: Survey, refused: Mapping[int, Refusal]) -> LayerPlan:
    refusal = refused.get(id(survey.modules.get(row.module))) if row.rewrite else None
    if refusal is None:
        return row
    code, reason = refusal.code, refusal.reason
    return replace(row, verdict=Verdict.REFUSED, code=code, reason=reason, rewrite=None)
