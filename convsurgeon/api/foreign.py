"""Files that other tools rewrote: what may have been done, by the same evidence rules as `swap`."""

from __future__ import annotations

from convsurgeon.api.planning import Planner
from convsurgeon.errors import RecipeError
from convsurgeon.plan import METADATA_KEY, LayerPlan, Step
from convsurgeon.rearrangement import LAYOUTS
from convsurgeon.store import Checkpoint, Source

_MATRIX = 2
Possible = dict[str, tuple[Step, ...]]


def assumed_steps(planner: Planner, before: Checkpoint, source: Source, after: Source) -> Possible:
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
        return {}
    old, new = source.header.by_name, after.header.by_name
    changed = {
        name: "linear" if len(tensor.shape) == _MATRIX else "conv"
        for name, tensor in new.items()
        if name in old and (len(old[name].shape) == _MATRIX) != (len(tensor.shape) == _MATRIX)
    }
    found: Possible = {}
    for to in sorted(set(changed.values())):
        layers = {layer.key: layer for layer in planner.towards(to, before).layers}
        names = (name for name, form in changed.items() if form == to)
        found.update({name: _steps(name, layers.get(name)) for name in names})
    return found


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
