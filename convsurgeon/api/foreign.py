"""Files that other tools rewrote: what may have been done, by the same evidence rules as `swap`."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from convsurgeon.api.planning import Planner
from convsurgeon.errors import RecipeError
from convsurgeon.header import TensorInfo
from convsurgeon.plan import METADATA_KEY, LayerPlan, Step
from convsurgeon.proof import Assumed
from convsurgeon.proof.untouched import common_parts
from convsurgeon.rearrangement import LAYOUTS
from convsurgeon.store import Checkpoint, Source

_MATRIX = 2
Tensors = Mapping[str, TensorInfo]


def assumed_steps(planner: Planner, before: Checkpoint, source: Source, after: Source) -> Assumed:
    """Return for each weight with another number of axes what may have been done to it.

    Both layouts are possible; a shape does not tell which. Nothing is assumed about files with a
    recipe.

    Args:
        planner: knows the evidence.
        before: the original checkpoint.
        source: the file of it that is compared.
        after: the file that it is compared with.

    Raises:
        RecipeError: CS081 where no evidence says what the weight is.
    """
    if METADATA_KEY in after.header.metadata_map:
        return Assumed()
    old, new = source.header.by_name, after.header.by_name
    renamed = _renamed(old, new)
    changed = {
        name: "linear" if _flat(new[other]) else "conv"
        for name, other in ((name, renamed.get(name, name)) for name in old)
        if other in new and _flat(old[name]) != _flat(new[other])
    }
    steps: dict[str, tuple[Step, ...]] = {}
    for to in sorted(set(changed.values())):
        layers = {layer.key: layer for layer in planner.towards(to, before).layers}
        for name in (name for name, form in changed.items() if form == to):
            layer = layers.get(name)
            # Under another name it may as well be another tensor: no evidence, no claim.
            if name in new or (layer and layer.rewrite):
                steps[name] = _steps(name, layer)
    return Assumed(steps, {name: renamed[name] for name in renamed if name in steps})


def _flat(tensor: TensorInfo) -> bool:
    return len(tensor.shape) == _MATRIX


def _renamed(old: Tensors, new: Tensors) -> dict[str, str]:
    """Return weights that have another form *and* another name: by shapes, then by names.

    A weight `[O, C, *kernel]` is missing, and one `[O, C * prod(kernel)]` is new, or the reverse;
    the names have a component in common. Of several such the closest name is taken; where two are
    as close, none is.
    """
    extra = [tensor for name, tensor in new.items() if name not in old]
    found: dict[str, str] = {}
    for name, tensor in old.items():
        if name in new or len(tensor.shape) < _MATRIX:
            continue
        fitting = [other.name for other in extra if _other_form(tensor, other)]
        ranked = sorted(fitting, key=lambda other: -common_parts(name, other))
        near = [common_parts(name, other) for other in ranked[:2]]
        if near and near[0] and near[0] not in near[1:] and ranked[0] not in found.values():
            found[name] = ranked[0]
    return found


def _other_form(one: TensorInfo, other: TensorInfo) -> bool:
    if one.dtype != other.dtype or _flat(one) == _flat(other) or len(other.shape) < _MATRIX:
        return False
    return one.shape[0] == other.shape[0] and prod(one.shape[1:]) == prod(other.shape[1:])


def _steps(name: str, layer: LayerPlan | None) -> tuple[Step, ...]:
    if layer is None or layer.rewrite is None or layer.geometry is None or layer.evidence is None:
        why = f"{layer.code} {layer.reason}" if layer and layer.code else layer and layer.reason
        reason = f": {why}" if why else ""
        message = f"{name} has another form, no recipe says how it came, and no evidence does"
        hint = layer.hint if layer else ""
        raise RecipeError("CS081", message + reason, hint=hint and f"add {hint}")
    rewrite = layer.rewrite
    return tuple(
        Step(
            key=name,
            rule=rewrite.rule,
            layout=layout,
            source_form=layer.form,
            source_shape=layer.weight_shape,
            target_form=rewrite.to,
            target_shape=rewrite.weight_shape,
            geometry=layer.geometry,
            evidence=layer.evidence,
            sha256="",
        )
        for layout in LAYOUTS
    )
