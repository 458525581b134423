"""Modules for modules, all or nothing: everything is built first, then put in place.

Imported by `swap_module` and `restore_module` alone, with torch at hand.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convsurgeon.api.live.keeping import held, holders_of, inherit
from convsurgeon.api.live.objections import Objection, Standing
from convsurgeon.api.live.scene import Scene
from convsurgeon.geometry import Refusal
from convsurgeon.integrations.saving import save_as_original
from convsurgeon.rearrangement import Rearrangement

if TYPE_CHECKING:
    from torch import nn

_NAMES = ("weight", "bias")


@dataclass(frozen=True, eq=False, slots=True)
class Wanted:
    """A module that another is to stand for.

    Attributes:
        old: the module.
        make: builds the other one, with what is kept; the old one stays as it is.
        move: from the weight that it holds to that of the other one.
        objections: asked before, in this order.
        code: of a refusal by `make` itself.
    """

    old: nn.Module
    make: Callable[[nn.Module], nn.Module]
    move: Rearrangement
    objections: tuple[Objection, ...]
    code: str


@dataclass(frozen=True, eq=False, slots=True)
class Change:
    """The same, built.

    Attributes:
        old: the module.
        new: the one that takes its place.
        move: from weight to weight.
    """

    old: nn.Module
    new: nn.Module
    move: Rearrangement

    def renews(self, name: str) -> bool:
        """Tell whether the weight, or the bias, becomes another parameter."""
        return _identities(self.old, name) != _identities(self.new, name)


@dataclass(frozen=True, eq=False, slots=True)
class Built:
    """What became of what was wanted.

    Attributes:
        changes: what can be put in place.
        refused: why other modules stay, by their identity.
        untied: what else uses a weight of which a copy was made, by the module's identity.
    """

    changes: tuple[Change, ...]
    refused: Mapping[int, Refusal]
    untied: Mapping[int, str]


def build(wanted: Sequence[Wanted], scene: Scene, *, untie: bool = False) -> Built:
    """Build what can be built; the model stays as it is.

    Args:
        wanted: modules, and what is to stand for them.
        scene: of their model.
        untie: whether a weight that something else uses too is copied; else that is refused.
    """
    import torch

    changes, refused = [], {}
    # A caller's inference mode would make parameters that no gradient can ever reach.
    with torch.inference_mode(mode=False), torch.no_grad():
        for one in wanted:
            found = _built(one, scene)
            if isinstance(found, Refusal):
                refused[id(one.old)] = found
            else:
                changes.append(found)
        tied = _tied(changes, scene)
        for change in changes if untie else ():
            if id(change.old) in tied:
                _copy(change)
        if not untie:
            changes = [change for change in changes if id(change.old) not in tied]
            why = "which would keep the old one"
            refused |= {place: Refusal("CS016", f"{t}, {why}") for place, t in tied.items()}
        _share(changes)
    return Built(tuple(changes), refused, tied if untie else {})


def attach(model: nn.Module, changes: Sequence[Change]) -> None:
    """Put every new module in place, under each name that the old one has; or none.

    Models of transformers go on saving what they were.
    """
    new = {id(change.old): change.new for change in changes}
    places = [
        (parent._modules, name, child)  # noqa: SLF001 (`named_children` hides a second name)
        for parent in model.modules()
        for name, child in parent._modules.items()  # noqa: SLF001
        if child is not None and id(child) in new
    ]
    try:
        for table, name, child in places:
            table[name] = new[id(child)]
        save_as_original(model)
    except BaseException:
        for table, name, child in places:
            table[name] = child
        raise


def _built(one: Wanted, scene: Scene) -> Change | Refusal:
    standing = Standing(one.old, scene)
    refusal = next((r for object_ in one.objections if (r := object_(standing))), None)
    if refusal:
        return refusal
    try:
        change = Change(one.old, one.make(one.old), one.move)
    except ValueError as error:  # what the drop-in itself refuses
        return Refusal(one.code, str(error))
    for name in _NAMES:
        if change.renews(name):
            move = one.move if name == "weight" else None
            inherit(held(change.new, name), held(change.old, name), move)
    return change


def _tied(changes: Sequence[Change], scene: Scene) -> dict[int, str]:
    """Find what uses a weight or a bias too that becomes another parameter, and would keep it."""
    owners = {id(holder): change for change in changes for holder in holders_of(change.old)}
    found = {}
    for change in changes:
        for name in _NAMES:
            holders = {id(h): h for one in held(change.old, name) for h in scene.holders[id(one)]}
            others = [
                type(holder).__name__
                for place, holder in holders.items()
                if change.renews(name) and not _alike(owners.get(place), change, name)
            ]
            if others:
                found[id(change.old)] = f"its {name} is also used by {', '.join(others)}"
    return found


def _alike(other: Change | None, change: Change, name: str) -> bool:
    """Tell whether two changes make the same of the same parameters."""
    if other is None or other.move != change.move:
        return False
    return _identities(other.old, name) == _identities(change.old, name)


def _copy(change: Change) -> None:
    """Give a new module memory of its own; the gradient stays with whoever has the old one."""
    for name in filter(change.renews, _NAMES):
        for parameter in held(change.new, name):
            parameter.data = parameter.data.clone()
            parameter.grad = None


def _share(changes: Sequence[Change]) -> None:
    """Make one parameter of what was one before."""
    for name in _NAMES:
        groups: dict[tuple[int, ...], list[Change]] = defaultdict(list)
        for change in changes:
            if change.renews(name):
                groups[_identities(change.old, name)].append(change)
        for first, *others in groups.values():
            for other in others:
                mine = held(first.new, name)
                for holder, parameter in zip(holders_of(other.new), mine, strict=True):
                    setattr(holder, name, parameter)


def _identities(module: nn.Module, name: str) -> tuple[int, ...]:
    return tuple(map(id, held(module, name)))
