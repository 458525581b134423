"""All or none: in a model whose code has the channels first, no layer may stay that takes rows.

Imported by `swap_module` alone, with torch at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from convsurgeon.api.live.exchange import Built
from convsurgeon.api.live.norms import Norms
from convsurgeon.api.live.survey import Survey
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
    from torch import nn

    for row in rows:
        module = survey.modules.get(row.module)
        # What a table gives is turned by the model's own code, or that could not be channel-first.
        if module is None or isinstance(module, (nn.Embedding, nn.EmbeddingBag)):
            continue
        refused = row.verdict in (Verdict.REFUSED, Verdict.UNDECIDED)
        if not refused or len(row.weight_shape) != _MATRIX:
            continue
        if where(row.module, module):
            yield f"{row.module} stays as it is ({row.code or row.reason})"
    for name, norm in norms.named.items():
        if refusal := built.refused.get(id(norm)):
            yield f"{name} normalises its last axis still ({refusal.code})"


def _refused(row: LayerPlan, reason: str) -> LayerPlan:
    return replace(row, verdict=Verdict.REFUSED, code="CS088", reason=reason, rewrite=None)
