"""Which module takes whose place: what a recipe did to a weight, done to a live layer.

Imported by `load` alone, with torch at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

from convsurgeon.api.live.exchange import Change, Wanted, build
from convsurgeon.api.live.model import LiveModel
from convsurgeon.api.live.operations import OPERATIONS, wanted
from convsurgeon.api.live.scene import Scene
from convsurgeon.errors import MismatchError
from convsurgeon.geometry import Geometry, is_conv, times
from convsurgeon.integrations import Unit
from convsurgeon.integrations.recorded import Effect
from convsurgeon.rearrangement import CHANNEL_FIRST, flatten_patches
from convsurgeon.rules import Rewrite
from convsurgeon.sources.layers import examine, reforwarded

if TYPE_CHECKING:
    from torch import Tensor, nn


class Replacing:
    """Builds the modules that the effects of a file ask for, as `swap_module` does.

    Args:
        live: the model; its `replaced` is filled by `build`.
        kind: what stands for a conv: "linear" or "gemm"; "keep" where every layer stays.
        untie: whether a weight that something else uses too is copied; else that is refused.
    """

    def __init__(self, live: LiveModel, kind: str, *, untie: bool) -> None:
        self.live, self.kind, self.untie = live, kind, untie
        self.scene = Scene(live.model)
        self.names = live.names()
        self.paths: dict[int, str] = {}
        self._wanted: dict[int, Wanted] = {}
        self._layouts: dict[int, str] = {}

    def ask(self, effect: Effect, unit: Unit) -> None:
        """Note what one effect asks for, unless the model has it already.

        Args:
            effect: of the weight.
            unit: where its key goes.

        Raises:
            MismatchError: CS084 where the live layer is not the one that the recipe speaks of.
        """
        path, _, attribute = unit.name.rpartition(".")
        module = self.live.modules.get(path)
        if module is None or unit.name not in self.names:
            return  # reported with everything else that the file holds and the model does not
        if unit.convert is not None or attribute != "weight":
            message = "the library converts this weight itself, so it cannot be swapped as well"
            raise MismatchError("CS084", message, where=effect.key)
        for place, layer in self._sharing(path, module):
            rewrite = self._rewrite(place, layer, effect)
            if rewrite is not None:
                operation = OPERATIONS[rewrite.to, self.kind if effect.to_linear else "linear"]
                self._wanted[id(layer)] = wanted(layer, rewrite, operation)
                self._layouts[id(layer)] = rewrite.layout
                self.paths[id(layer)] = place

    def build(self) -> list[tuple[Change, str, str]]:
        """Build all of them; the model stays as it is.

        Returns:
            Each change, the name of the module, and the layout of the linear side.

        Raises:
            MismatchError: CS084 where a module cannot be replaced.
        """
        built = build(tuple(self._wanted.values()), self.scene, untie=self.untie)
        for module, refusal in built.refused.items():
            message = f"cannot be replaced: {refusal.reason} [{refusal.code}]"
            where = self.paths[module] or "(root)"
            tied = "convsurgeon.swap_module(model, to=..., untie=True) first"
            hint = tied if refusal.code == "CS016" else 'kind="keep" replaces nothing'
            raise MismatchError("CS084", message, where=where, hint=hint)
        self.live.replaced = {id(change.old): change.new for change in built.changes}
        return [(c, self.paths[id(c.old)], self._layouts[id(c.old)]) for c in built.changes]

    def _sharing(self, path: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        """Yield a layer, and others of its class that have the same weight: they go together."""
        yield path, module
        weight = module._parameters.get("weight")  # noqa: SLF001 (the attribute may be computed)
        for other in self.scene.holders[id(weight)] if weight is not None else ():
            if other is not module and type(other) is type(module):
                yield next(name for name, m in self.live.modules.items() if m is other), other

    def _rewrite(self, path: str, layer: nn.Module, effect: Effect) -> Rewrite | None:
        """Return what is to become of a layer; None where it stays."""
        from torch import nn

        conv = isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
        plain = not type(layer).__module__.startswith("convsurgeon.nn.")
        if effect.layout is None:
            message = "the recipe's steps together are no change that a drop-in module makes"
            raise MismatchError("CS084", message, where=effect.key, hint="restore the file first")
        if effect.to_linear and plain and type(layer) is not nn.Linear:
            _check_geometry(path, layer, effect)
            move = flatten_patches(effect.before, effect.layout)
            rewrite = Rewrite("recipe", "linear", effect.layout, move, "recorded")
            return None if self.kind == "keep" else rewrite
        if not effect.to_linear and plain and not conv:
            if type(layer) is nn.Linear:
                _accept(path, layer, effect.before)
            # A flat drop-in takes its features as torch flattens them, whatever the file's conv.
            move = flatten_patches(effect.after, CHANNEL_FIRST).inverse()
            rewrite = Rewrite("recipe", "conv", CHANNEL_FIRST, move, "recorded")
            return None if self.kind == "keep" else rewrite
        return None


def _accept(path: str, module: nn.Module, expected: tuple[int, ...]) -> None:
    shape = tuple(cast("Tensor", module.weight).shape)
    if shape != expected:
        kind = type(module).__name__
        message = f"the {kind} has a weight {list(shape)}, the recipe speaks of {list(expected)}"
        raise MismatchError("CS084", message, where=path)


def _check_geometry(path: str, module: nn.Module, effect: Effect) -> None:
    import torch

    found = examine(torch, module, (reforwarded,)).get("")  # hooks are kept
    if found is None or not is_conv(found.form):
        message = f"the recipe speaks of a convolution, the model has a {type(module).__name__}"
        raise MismatchError("CS084", message, where=path)
    if found.refusal is not None or found.geometry is None:
        reason = found.refusal.reason if found.refusal else "it has no geometry"
        raise MismatchError("CS084", f"cannot be replaced: {reason}", where=path)
    _accept(path, module, effect.before)
    if found.geometry.effective() != effect.geometry.effective():
        live, recorded = _text(found.geometry), _text(effect.geometry)
        message = f"the model's convolution has {live}, the recipe's has {recorded}"
        raise MismatchError("CS084", message, where=path)


def _text(geometry: Geometry) -> str:
    fields = ("kernel", "stride", "padding", "dilation")
    sizes = [f"{name} {times(getattr(geometry, name))}" for name in fields]
    return ", ".join([*sizes, f"groups {geometry.groups}"])
