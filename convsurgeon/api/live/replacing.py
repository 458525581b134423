"""Which module takes whose place: what a recipe did to a weight, done to a live layer.

Imported by `load` alone, with torch at hand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from convsurgeon.api.live.effects import Effect
from convsurgeon.api.live.model import LiveModel
from convsurgeon.errors import MismatchError
from convsurgeon.geometry import Geometry, is_conv, times
from convsurgeon.integrations import Unit
from convsurgeon.nn import (
    FlatConv1d,
    FlatConv2d,
    FlatConv3d,
    GemmConv1d,
    GemmConv2d,
    GemmConv3d,
    PatchLinear,
)
from convsurgeon.rearrangement import CHANNEL_FIRST, between
from convsurgeon.sources.layers import examine

if TYPE_CHECKING:
    from torch import Tensor, nn

_GEMM = (GemmConv1d, GemmConv2d, GemmConv3d)
_FLAT = (FlatConv1d, FlatConv2d, FlatConv3d)


class Replacing:
    """Builds the modules that the effects of a file ask for.

    Args:
        live: the model; its `replaced` is filled.
        kind: what stands for a conv: "linear" or "gemm".
    """

    def __init__(self, live: LiveModel, kind: str) -> None:
        self.live, self.kind = live, kind
        self.slots = live.slots()
        self.names = self.slots.keys() | live.inner_names().keys()

    def prepare(self, effect: Effect, unit: Unit) -> str | None:
        """Build the module for one effect, unless the model holds one already.

        Args:
            effect: of the weight.
            unit: where its key goes.

        Returns:
            The name of the module that is to be replaced; None where there is nothing to replace.

        Raises:
            MismatchError: CS084 where the live layer is not the one that the recipe speaks of.
        """
        path, _, attribute = unit.name.rpartition(".")
        module = self.live.now(path)
        if module is None or unit.name not in self.names:
            return None  # reported with everything else that the file holds and the model does not
        if unit.convert is not None or attribute != "weight":
            message = "the library converts this weight itself, so it cannot be swapped as well"
            raise MismatchError("CS084", message, where=effect.key)
        new = self._new(path, module, effect)
        if new is None:
            return None
        if not path:
            message = "the model is the layer itself, so there is no place to put another one"
            raise MismatchError("CS084", message, hint="wrap it: nn.Sequential(model)")
        self.live.replaced[id(module)] = new
        return path

    def _new(self, path: str, module: nn.Module, effect: Effect) -> nn.Module | None:
        try:
            if effect.to_linear:
                return self._linear(path, module, effect)
            return self._conv(path, module, effect)
        except ValueError as error:  # from the drop-in: a hook, a computed weight
            raise MismatchError("CS084", str(error), where=path) from None

    def _linear(self, path: str, module: nn.Module, effect: Effect) -> nn.Module | None:
        from torch import nn

        if isinstance(module, (PatchLinear, *_GEMM)):
            shape = (module.out_channels, module.in_channels, *module.kernel_size)
            _accept(path, module, shape, effect.conv_shape)
            return None
        if type(module) is nn.Linear:
            _accept(path, module, _shape(module), effect.after)
            return None
        _check_geometry(path, module, effect)
        if self.kind == "gemm":
            return _GEMM[effect.geometry.ndim - 1].from_conv(module)
        self._refuse_tied(path, module)
        return PatchLinear.from_conv(module, effect.layout)

    def _conv(self, path: str, module: nn.Module, effect: Effect) -> nn.Module | None:
        from torch import nn

        flat = isinstance(module, _FLAT) and module.input == "flat"
        if flat or isinstance(module, nn.Linear):
            _check_order(path, effect)
        if isinstance(module, _FLAT) or type(module) in (nn.Conv1d, nn.Conv2d, nn.Conv3d):
            _accept(path, module, _shape(module), effect.after)
            return None
        readers = (nn.TransformerEncoderLayer, nn.MultiheadAttention)
        reader = next((p for p in self.live.parents(module) if isinstance(p, readers)), None)
        if reader is not None:
            message = f"its parent, a {type(reader).__name__}, reads the weight as a matrix"
            raise MismatchError("CS084", message, where=path)
        self._refuse_tied(path, module)
        flat_conv = _FLAT[effect.geometry.ndim - 1]
        new = flat_conv.from_linear(module, effect.after[1], effect.geometry.kernel)
        _accept(path, module, _shape(new), effect.after)
        return new

    def _refuse_tied(self, path: str, module: nn.Module) -> None:
        """Refuse a weight that others use too: the new one has another shape and cannot be tied."""
        slot = self.slots[f"{path}.weight" if path else "weight"]
        if any(holder is not module for holder, _ in slot.places):
            message = "its weight is tied to another layer's"
            raise MismatchError("CS084", message, where=path, hint="untie the weights first")


def _shape(module: nn.Module) -> tuple[int, ...]:
    return tuple(cast("Tensor", module.weight).shape)


def _accept(path: str, module: nn.Module, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Let a module stay that has the form already."""
    if shape != wanted:
        message = (
            f"the {type(module).__name__} has a weight {list(shape)}, the recipe speaks of "
            f"{list(wanted)}"
        )
        raise MismatchError("CS084", message, where=path)


def _check_geometry(path: str, module: nn.Module, effect: Effect) -> None:
    import torch

    found = examine(torch, module).get("")
    if found is None or not is_conv(found.form):
        message = f"the recipe speaks of a convolution, the model has a {type(module).__name__}"
        raise MismatchError("CS084", message, where=path)
    if found.refusal is not None or found.geometry is None:
        reason = found.refusal.reason if found.refusal else "it has no geometry"
        raise MismatchError("CS084", f"cannot be replaced: {reason}", where=path)
    _accept(path, module, found.shape or (), effect.before)
    if found.geometry.effective() != effect.geometry.effective():
        live, recorded = _text(found.geometry), _text(effect.geometry)
        message = f"the model's convolution has {live}, the recipe's has {recorded}"
        raise MismatchError("CS084", message, where=path)


def _check_order(path: str, effect: Effect) -> None:
    """Refuse features that are flattened in another order than the flat drop-in takes them in."""
    if effect.layout != CHANNEL_FIRST:
        back = between(effect.after, effect.before, effect.layout)
        if back.moves_bytes:
            message = f"its features are flattened as {effect.layout!r}, a flat conv's are not"
            raise MismatchError("CS084", message, where=path)


def _text(geometry: Geometry) -> str:
    fields = ("kernel", "stride", "padding", "dilation")
    sizes = [f"{name} {times(getattr(geometry, name))}" for name in fields]
    return ", ".join([*sizes, f"groups {geometry.groups}"])
