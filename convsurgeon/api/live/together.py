"""All or none: in a model whose code has the channels first, no layer may stay that takes rows.

Imported by `swap_module` alone, with torch at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from convsurgeon.api.live.exchange import Built
from convsurgeon.api.live.norms import Norms
from convsurgeon.api.live.survey import FLAT_CONVS, Survey
from convsurgeon.nn import PatchLinear, SplitConv
from convsurgeon.plan import LayerPlan, Verdict

if TYPE_CHECKING:
    from torch import nn

_MATRIX = 2


def all_or_none(
    rows: Sequence[LayerPlan],
    norms: Norms,
    built: Built,
    survey: Survey,
    where: Callable[[str, nn.Module], bool],
) -> tuple[LayerPlan, ...] | None:
    """Return the plan's layers as all refused where one stays that would take rows; else None.

    A Linear that the caller leaves out by `where` is taken for one that stands outside.

    Args:
        rows: the plan's layers, with what was refused in the live model.
        norms: the layer norms that have to follow.
        built: what became of either.
        survey: of the model.
        where: as the caller gave it.
    """
    first = next(_staying(rows, norms, built, survey, where), None)
    if first is None:
        return None
    reason = f"{first}, and would take rows among layers that take maps"
    return tuple(_refused(row, reason) if row.rewrite else row for row in rows)


def _staying(
    rows: Sequence[LayerPlan],
    norms: Norms,
    built: Built,
    survey: Survey,
    where: Callable[[str, nn.Module], bool],
) -> Iterator[str]:
    """Yield each layer that would go on taking rows, and why."""
    follow = {id(change.old) for change in built.changes}
    inside = {id(part) for one in survey.drop_ins.values() for part in one.modules()}
    planned = {row.module: row for row in rows}
    for path, module in survey.modules.items():
        known = id(module) in follow or (id(module) in inside and path not in survey.drop_ins)
        row = planned.get(path)
        if not known and _takes_rows(module, row) and where(path, module):
            code = row.code if row and row.code else type(module).__name__
            yield f"{path} stays as it is ({code})"
    for name, norm in norms.named.items():
        if refusal := built.refused.get(id(norm)):
            yield f"{name} normalises its last axis still ({refusal.code})"


def _takes_rows(module: nn.Module, row: LayerPlan | None) -> bool:
    """Tell whether what is left of a model has features last: a Linear of any kind, a softmax."""
    from torch import nn

    if isinstance(module, (*FLAT_CONVS, SplitConv)):
        return module.input != "map"
    # What a table gives is turned by the model's own code, or that could not be channel-first.
    if isinstance(module, (PatchLinear, nn.Embedding, nn.EmbeddingBag)):
        return False
    matrix = row is not None and len(row.weight_shape) == _MATRIX
    if isinstance(module, (nn.Softmax, nn.Softmin, nn.LogSoftmax, nn.GLU)):
        return module.dim == -1
    last = isinstance(module, (nn.RMSNorm, nn.RNNBase))
    # Some quantised layers have no parameter that a plan could list.
    return matrix or last or hasattr(module, "in_features")


def _refused(row: LayerPlan, reason: str) -> LayerPlan:
    return replace(row, verdict=Verdict.REFUSED, code="CS088", reason=reason, rewrite=None)
