"""Where each tensor of a file goes, found on headers alone: no tensor is read here.

Imported by `load` alone, with torch at hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate, pairwise
from math import prod
from typing import TYPE_CHECKING

from convsurgeon.api.live.model import LiveModel, Slot
from convsurgeon.api.live.survey import FLAT_CONVS, DropIn, conv_shape
from convsurgeon.errors import MismatchError
from convsurgeon.integrations import Translation, Unit
from convsurgeon.integrations.recorded import Effect
from convsurgeon.nn import PatchLinear
from convsurgeon.rearrangement import (
    CHANNEL_FIRST,
    CHANNEL_LAST,
    Rearrangement,
    between,
    flatten_patches,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

_SHOWN = 5


@dataclass(frozen=True, eq=False, slots=True)
class Way:
    """How one tensor gets to its place.

    Attributes:
        slot: the place.
        moves: what is done to the tensor on the way.
        rows: which of its rows then belong there; None for all.
    """

    slot: Slot
    moves: tuple[Rearrangement, ...]
    rows: slice | None = None

    def fit(self, tensor: Tensor) -> Tensor:
        """Return the tensor in the form that the place has; a view where one will do."""
        for move in self.moves:
            tensor = tensor.reshape(move.split).permute(move.axes).reshape(move.target)
        return tensor if self.rows is None else tensor[self.rows]


@dataclass(frozen=True, eq=False, slots=True)
class Placement:
    """What goes where.

    Attributes:
        ways: for each unit in turn the ways of its tensors, by the names that the unit gives them.
        ignored: keys that stay in the file because the model's library says so.
    """

    ways: tuple[tuple[Unit, dict[str, tuple[Way, ...]]], ...]
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
            if all(place in self.slots for name in found for place in self._inside(name)):
                known.append((unit, found))
            else:
                strange.append(unit)
        self._check_names(translation, [name for _, found in known for name in found], strange)
        lost = self.live.lost()
        if lost:
            message = f"no file holds {_some(lost)}, and the model has it on the meta device"
            raise MismatchError("CS084", message, hint="build the model with memory")
        ways = tuple((u, {n: self._ways(u, n, t) for n, t in found.items()}) for u, found in known)
        return Placement(ways, tuple(sorted(key for unit in strange for key in unit.keys)))

    def _inside(self, name: str) -> tuple[str, ...]:
        return self.inner.get(name, (name,))

    def _check_names(
        self, translation: Translation, names: list[str], strange: Iterable[Unit]
    ) -> None:
        places = [place for name in names for place in self._inside(name)]
        filled = {id(self.slots[place]) for place in places}
        outer = {place: name for name, places in self.inner.items() for place in places}
        lacking = [
            outer.get(name, name)
            for name, slot in self.slots.items()
            if id(slot) not in filled and (slot.tensor.is_meta or not translation.may_lack(name))
        ]
        missing = list(dict.fromkeys(lacking))  # all parts of one tensor are missing together
        unexpected = [k for u in strange if not translation.may_drop(u.name) for k in u.keys]
        often = [outer.get(name, name) for name, n in Counter(places).items() if n > 1]
        twice = list(dict.fromkeys(often))
        wrong = [
            f"{len(found)} {what}: {_some(sorted(found))}"
            for found, what in ((missing, "missing"), (unexpected, "unexpected"), (twice, "twice"))
            if found
        ]
        if wrong:
            hint = "key_map= renames keys of the file"
            message = f"the file's tensors are not the model's; {'; '.join(wrong)}"
            raise MismatchError("CS084", message, hint=hint)

    def _ways(self, unit: Unit, name: str, tensor: Tensor) -> tuple[Way, ...]:
        slots = [self.slots[place] for place in self._inside(name)]
        wanted = slots[0].tensor.dtype
        if tensor.dtype != wanted:
            floats = tensor.is_floating_point() and wanted.is_floating_point
            if not (self.cast and floats):
                message = f"the file has {tensor.dtype}, the model {wanted}"
                hint = f"model.to({tensor.dtype}), or cast=True" if floats else ""
                raise MismatchError("CS084", message, where=unit.keys[0], hint=hint)
        shape, key = tuple(slots[0].tensor.shape), unit.keys[0]
        if len(slots) == 1:
            return (Way(slots[0], self._moves(key, name, tuple(tensor.shape), shape)),)
        ends = list(accumulate((len(slot.tensor) for slot in slots), initial=0))
        moves = self._moves(key, name, tuple(tensor.shape), (ends[-1], *shape[1:]))
        return tuple(Way(s, moves, slice(*p)) for s, p in zip(slots, pairwise(ends), strict=True))

    def _moves(
        self, key: str, name: str, shape: tuple[int, ...], target: tuple[int, ...]
    ) -> tuple[Rearrangement, ...]:
        """Return the way into the place: from what the recipe began with, else from what it is."""
        holder = self.live.now(name.rpartition(".")[0]) if name.endswith("weight") else None
        effect, inner = self.effects.get(key), name in self.inner
        if effect is not None:
            into = _into(holder, effect.before, target, inner=inner)
            if into is not None:
                return _joined(effect.move.inverse(), into)
        into = _into(holder, shape, target, inner=inner)
        if into is not None:
            return into
        if isinstance(holder, DropIn) and shape == (target[0], prod(target[1:])):
            message = "the file does not say in which order the columns of this matrix stand"
            hint = "load a file that convsurgeon swapped"
            raise MismatchError("CS084", message, where=key, hint=hint)
        message = f"the file has {list(shape)}, the model {list(target)}"
        raise MismatchError("CS084", message, where=key)


def _into(
    holder: nn.Module | None, shape: tuple[int, ...], target: tuple[int, ...], *, inner: bool
) -> tuple[Rearrangement, ...] | None:
    """Return what makes a tensor of a file one of a module; None where that is not known.

    Args:
        holder: the module, if the tensor is a weight.
        shape: of a tensor that no recipe speaks of any more.
        target: of the module's tensor.
        inner: whether the file calls the weight of an inner layer by the name of the outer one.
    """
    if isinstance(holder, PatchLinear) and inner:
        conv = conv_shape(holder)
        if shape == conv:
            return (between(conv, target, holder.layout),)
        return () if shape == target and _alike(conv) else None
    if shape == target:
        return ()
    if not isinstance(holder, DropIn) or shape != (target[0], prod(target[1:])):
        return None
    # A flat convolution was made of a Linear, whose features torch has flattened.
    known = isinstance(holder, FLAT_CONVS) or _alike(target)
    return (between(shape, target, CHANNEL_FIRST),) if known else None


def _alike(conv: tuple[int, ...]) -> bool:
    """Tell whether all layouts are the same order."""
    return not flatten_patches(conv, CHANNEL_LAST).moves_bytes


def _joined(back: Rearrangement, into: tuple[Rearrangement, ...]) -> tuple[Rearrangement, ...]:
    """Leave out what undoes itself: on a device, that would be two copies."""
    if not into:
        return (back,)
    try:
        whole = reduce(Rearrangement.then, into, back)
    except ValueError:
        return (back, *into)
    return () if whole.source == whole.target and not whole.moves_bytes else (whole,)


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
