"""Where each tensor of a file goes, found on headers alone: no tensor is read here.

Imported by `load` alone, with torch at hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from convsurgeon.api.live.effects import Effect
from convsurgeon.api.live.model import LiveModel, Slot
from convsurgeon.errors import MismatchError
from convsurgeon.integrations import Translation, Unit
from convsurgeon.nn import (
    FlatConv1d,
    FlatConv2d,
    FlatConv3d,
    GemmConv1d,
    GemmConv2d,
    GemmConv3d,
    PatchLinear,
)
from convsurgeon.rearrangement import CHANNEL_FIRST, CHANNEL_LAST, Rearrangement, between

if TYPE_CHECKING:
    from torch import Tensor

_SHOWN = 5
_FLAT = (FlatConv1d, FlatConv2d, FlatConv3d)
_CONV_SHAPED = (*_FLAT, GemmConv1d, GemmConv2d, GemmConv3d)


@dataclass(frozen=True, eq=False, slots=True)
class Way:
    """How one tensor gets to its place.

    Attributes:
        slot: the place.
        moves: what is done to the tensor on the way.
    """

    slot: Slot
    moves: tuple[Rearrangement, ...]

    def fit(self, tensor: Tensor) -> Tensor:
        """Return the tensor in the form that the place has; a view where one will do."""
        for move in self.moves:
            tensor = tensor.reshape(move.split).permute(move.axes).reshape(move.target)
        return tensor


@dataclass(frozen=True, eq=False, slots=True)
class Placement:
    """What goes where.

    Attributes:
        ways: for each unit in turn the ways of its tensors, by the names that the unit gives them.
        ignored: keys that stay in the file because the model's library says so.
    """

    ways: tuple[tuple[Unit, dict[str, Way]], ...]
    ignored: tuple[str, ...]


class Placing:
    """Finds the place of every tensor.

    Args:
        live: the model, with its replacements prepared.
        effects: what the recipes did, by key.
        cast: whether a floating dtype other than the parameter's is accepted.
    """

    def __init__(self, live: LiveModel, effects: Mapping[str, Effect], *, cast: bool) -> None:
        self.live, self.effects, self.cast = live, effects, cast
        self.slots, self.inner = live.slots(), live.inner_names()

    def place(self, translation: Translation, empty: Mapping[str, Tensor]) -> Placement:
        """Give every tensor its place.

        Args:
            translation: the keys in the model's terms.
            empty: for each key a tensor of its dtype and shape on the meta device.

        Raises:
            MismatchError: CS084 for names that are missing or unexpected, shapes or dtypes that
                differ, and buffers on the meta device that no file holds.
        """
        known: list[tuple[Unit, dict[str, Tensor]]] = []
        strange: list[Unit] = []
        for unit in translation.units:
            found = unit.run({key: empty[key] for key in unit.keys})
            if all(self._inside(name) in self.slots for name in found):
                known.append((unit, found))
            else:
                strange.append(unit)
        self._check_names(translation, [name for _, found in known for name in found], strange)
        lost = self.live.lost()
        if lost:
            message = f"no file holds {_some(lost)}, and the model has it on the meta device"
            raise MismatchError("CS084", message, hint="build the model with memory")
        ways = tuple((u, {n: self._way(u, n, t) for n, t in found.items()}) for u, found in known)
        return Placement(ways, tuple(sorted(key for unit in strange for key in unit.keys)))

    def _inside(self, name: str) -> str:
        return self.inner.get(name, name)

    def _check_names(
        self, translation: Translation, names: list[str], strange: Iterable[Unit]
    ) -> None:
        places = [self._inside(name) for name in names]
        filled = {id(self.slots[place]) for place in places}
        outer = {inner: name for name, inner in self.inner.items()}
        missing = [
            outer.get(name, name)
            for name, slot in self.slots.items()
            if id(slot) not in filled and (slot.tensor.is_meta or not translation.may_lack(name))
        ]
        unexpected = [k for u in strange if not translation.may_drop(u.name) for k in u.keys]
        twice = [outer.get(name, name) for name, n in Counter(places).items() if n > 1]
        wrong = [
            f"{len(found)} {what}: {_some(sorted(found))}"
            for found, what in ((missing, "missing"), (unexpected, "unexpected"), (twice, "twice"))
            if found
        ]
        if wrong:
            hint = "key_map= renames keys of the file"
            message = f"the file's tensors are not the model's; {'; '.join(wrong)}"
            raise MismatchError("CS084", message, hint=hint)

    def _way(self, unit: Unit, name: str, tensor: Tensor) -> Way:
        slot = self.slots[self._inside(name)]
        wanted = slot.tensor.dtype
        if tensor.dtype != wanted:
            floats = tensor.is_floating_point() and wanted.is_floating_point
            if not (self.cast and floats):
                message = f"the file has {tensor.dtype}, the model {wanted}"
                hint = f"model.to({tensor.dtype}), or cast=True" if floats else ""
                raise MismatchError("CS084", message, where=unit.keys[0], hint=hint)
        return Way(slot, self._moves(unit.keys[0], name, tuple(tensor.shape), slot))

    def _moves(
        self, key: str, name: str, shape: tuple[int, ...], slot: Slot
    ) -> tuple[Rearrangement, ...]:
        target = tuple(slot.tensor.shape)
        effect = self.effects.get(key)
        holder = self.live.now(name.rpartition(".")[0]) if name.endswith("weight") else None
        if isinstance(holder, PatchLinear) and name in self.inner:
            conv = (holder.out_channels, holder.in_channels, *holder.kernel_size)
            into = between(conv, target, holder.layout)
            if shape == conv:
                return (into,)
            if shape == target:
                back = between(shape, conv, _layout(key, conv, effect))
                return () if back.inverse() == into else (back, into)
        elif isinstance(holder, _CONV_SHAPED) and shape == (target[0], prod(target[1:])):
            flat = effect is None and isinstance(holder, _FLAT)  # what was flattened by torch
            return (
                between(shape, target, CHANNEL_FIRST if flat else _layout(key, target, effect)),
            )
        if shape != target:
            message = f"the file has {list(shape)}, the model {list(target)}"
            raise MismatchError("CS084", message, where=key)
        return ()


def _layout(key: str, conv: tuple[int, ...], effect: Effect | None) -> str:
    """Return the order of the columns of a linear weight that stands for a conv's."""
    if effect is not None and effect.conv_shape == conv:
        return effect.layout
    either = between(conv, (conv[0], prod(conv[1:])), CHANNEL_LAST)
    if not either.moves_bytes:
        return CHANNEL_FIRST
    message = "the file does not say in which order the columns of this matrix stand"
    raise MismatchError("CS084", message, where=key, hint="load a file that convsurgeon swapped")


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
