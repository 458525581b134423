"""What `restore_module` does to a drop-in: each kind one row.

Imported by `restore_module` alone, with torch at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convsurgeon.api.live.exchange import Wanted, attach, build
from convsurgeon.api.live.keeping import carry, origin_of
from convsurgeon.api.live.loading import ReplacedModule
from convsurgeon.api.live.objections import (
    NEW_WEIGHT,
    SAME_PARAMETERS,
    STANDING,
    Objection,
    class_changed,
    gradient_hooks_of_bias,
    holds_more,
    inner_replaced,
    taken_by,
    takes_maps,
)
from convsurgeon.api.live.reported import ModuleReport, RefusedModule
from convsurgeon.api.live.scene import Scene
from convsurgeon.api.live.survey import FLAT_CONVS, GEMM_CONVS, DropIn, Survey, conv_shape
from convsurgeon.nn import ChannelNorm, PatchLinear, SplitConv
from convsurgeon.rearrangement import CHANNEL_FIRST, Rearrangement, flatten_patches, unmoved

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Restoration:
    """A way back.

    Attributes:
        kinds: of drop-ins.
        make: builds the plain layer.
        move: from the drop-in's weight to that of the layer.
        objections: what is asked before.
    """

    kinds: tuple[type[Any], ...]
    make: Callable[[Any], nn.Module]
    move: Callable[[Any], Rearrangement]
    objections: tuple[Objection, ...]


def _flatten(drop_in: Any) -> Rearrangement:
    return flatten_patches(conv_shape(drop_in), CHANNEL_FIRST)


def _unflatten(drop_in: PatchLinear) -> Rearrangement:
    return flatten_patches(conv_shape(drop_in), drop_in.layout).inverse()


def _rows() -> tuple[Restoration, ...]:
    from torch import nn

    first = (class_changed, *STANDING)
    return (
        Restoration(
            (PatchLinear,),
            PatchLinear.to_conv,
            _unflatten,
            (*first, inner_replaced, *NEW_WEIGHT, taken_by(nn.Conv2d)),
        ),
        Restoration(
            GEMM_CONVS, lambda drop_in: drop_in.to_conv(), _flatten, (*first, *SAME_PARAMETERS)
        ),
        Restoration(
            FLAT_CONVS,
            lambda drop_in: drop_in.to_linear(),
            _flatten,
            (*first, takes_maps, *NEW_WEIGHT, taken_by(nn.Linear)),
        ),
        Restoration(
            (SplitConv,),
            SplitConv.to_linear,
            _flatten,
            (*first, takes_maps, *NEW_WEIGHT, gradient_hooks_of_bias, taken_by(nn.Linear)),
        ),
        Restoration(
            (ChannelNorm,),
            ChannelNorm.to_norm,
            lambda norm: unmoved(norm.normalized_shape),
            (*first, *SAME_PARAMETERS, holds_more, taken_by(nn.LayerNorm)),
        ),
    )


def restore(model: nn.Module) -> ModuleReport:
    """Build a plain layer for every drop-in that allows it, and put all in place, or none."""
    survey = Survey.of(model)
    drop_ins = {n: m for n, m in survey.modules.items() if isinstance(m, (DropIn, ChannelNorm))}
    rows = _rows()
    wanted = {id(one): _wanted(one, rows) for one in drop_ins.values()}
    built = build(tuple(wanted.values()), Scene(model))
    new = {id(change.old): change.new for change in built.changes}
    restored, stay = [], []
    for path, module in drop_ins.items():
        kind = type(module).__name__
        refusal = built.refused.get(id(module))
        if refusal:
            stay.append(RefusedModule(path, kind, refusal.code, refusal.reason))
        else:
            after = type(new[id(module)]).__name__
            restored.append(ReplacedModule(path, kind, after, _layout(module)))
    attach(model, built.changes)
    return ModuleReport(tuple(restored), tuple(stay))


def _wanted(drop_in: DropIn | ChannelNorm, rows: tuple[Restoration, ...]) -> Wanted:
    row = next(row for row in rows if isinstance(drop_in, row.kinds))

    def make(old: nn.Module) -> nn.Module:
        plain = row.make(old)
        origin = origin_of(old)
        if origin is not None:
            origin.give_back(plain)
        carry(old, plain)
        return plain

    return Wanted(drop_in, make, row.move(drop_in), row.objections, "CS027")


def _layout(drop_in: nn.Module) -> str:
    return drop_in.layout if isinstance(drop_in, PatchLinear) else CHANNEL_FIRST
