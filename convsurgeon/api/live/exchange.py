"""Modules for modules, all or nothing: everything is built first, then put in place.

Imported by `swap_module` and `restore_module` alone, with torch at hand.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convsurgeon.api.live.keeping import inherit, weight_holder, weight_of
from convsurgeon.api.live.objections import Objection, Standing
from convsurgeon.api.live.scene import Scene
from convsurgeon.geometry import Refusal
from convsurgeon.rearrangement import Rearrangement

if TYPE_CHECKING:
    from torch import nn


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

    @property
    def renews(self) -> bool:
        """Whether the weight becomes another parameter."""
        return weight_of(self.old) is not weight_of(self.new)


def build(wanted: Sequence[Wanted], scene: Scene) -> tuple[list[Change], dict[int, Refusal]]:
    """Build what can be built; the model stays as it is.

    Returns:
        The changes, and why the other modules stay, by their identity.
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
        untied = _untied(changes, scene)
        changes = [change for change in changes if id(change.old) not in untied]
        _share(changes)
    return changes, refused | untied


def attach(model: nn.Module, changes: Sequence[Change]) -> None:
    """Put every new module in place, under each name that the old one has; or none."""
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
    if change.renews:
        inherit(weight_of(change.new), weight_of(change.old), one.move)
    return change


def _untied(changes: Sequence[Change], scene: Scene) -> dict[int, Refusal]:
    """Refuse weights that something else uses too, which would no longer be the same tensor."""
    moves: Mapping[int, Rearrangement] = {id(weight_holder(c.old)): c.move for c in changes}
    refused = {}
    for change in changes:
        holders = scene.holders[id(weight_of(change.old))]
        alike = all(moves.get(id(holder)) == change.move for holder in holders)
        if change.renews and not alike:
            others = [type(h).__name__ for h in holders if h is not weight_holder(change.old)]
            text = f"its weight is also used by {', '.join(others)}, which would keep the old one"
            refused[id(change.old)] = Refusal("CS016", text)
    return refused


def _share(changes: Sequence[Change]) -> None:
    """Make one parameter of what was one before."""
    groups: dict[int, list[Change]] = defaultdict(list)
    for change in changes:
        groups[id(weight_of(change.old))].append(change)
    for first, *others in groups.values():
        for other in others:
            weight_holder(other.new).weight = weight_of(first.new)
