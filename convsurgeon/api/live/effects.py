"""What the recipes of a checkpoint did to each weight, all steps taken together."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

from convsurgeon.errors import ConvsurgeonError, MismatchError, RecipeError
from convsurgeon.geometry import Geometry
from convsurgeon.plan import recipe_of
from convsurgeon.plan.recipe import Step
from convsurgeon.rearrangement import Rearrangement, between
from convsurgeon.store import Checkpoint, Source


@dataclass(frozen=True, slots=True)
class Effect:
    """The change of one weight.

    Attributes:
        key: its name in the file.
        before: shape before the first step.
        after: shape as it is stored.
        layout: order in which the linear side is flattened.
        geometry: of the conv, whichever side it stands on.
    """

    key: str
    before: tuple[int, ...]
    after: tuple[int, ...]
    layout: str
    geometry: Geometry

    @property
    def to_linear(self) -> bool:
        """Whether a conv became a linear layer; else the reverse."""
        return len(self.after) == 2

    @property
    def conv_shape(self) -> tuple[int, ...]:
        """Shape of the conv's weight."""
        return self.before if self.to_linear else self.after


def effects(checkpoint: Checkpoint) -> dict[str, Effect]:
    """Return what the recipes in a checkpoint come to, by key.

    Raises:
        RecipeError: CS082 where a recipe is damaged or does not fit its tensors.
        MismatchError: CS084 where the steps together are neither conv to linear nor the reverse.
    """
    found: dict[str, Effect] = {}
    for source in checkpoint.sources:
        try:
            found.update(_of_file(source))
        except ConvsurgeonError as error:
            raise error.at(source.path) from None
    return found


def _of_file(source: Source) -> dict[str, Effect]:
    recipe = recipe_of(source.header)
    if recipe is None:
        return {}
    chains: dict[str, list[Step]] = {}
    for step in recipe.steps:
        chains.setdefault(step.key, []).append(step)
    for key, chain in chains.items():
        info = source.header.by_name.get(key)
        made = chain[-1].target_shape
        if info is None or info.shape != made:
            stored = "missing" if info is None else list(info.shape)
            raise RecipeError("CS082", f"{key} is {stored}, the recipe made it {list(made)}")
    return {key: effect for key, chain in chains.items() if (effect := _net(chain))}


def _net(chain: list[Step]) -> Effect | None:
    first, last = chain[0], chain[-1]
    before, after = first.source_shape, last.target_shape
    try:
        moved = reduce(Rearrangement.then, (step.arrangement for step in chain))
    except ValueError:
        raise _unknown(first.key) from None
    if before == after and not moved.moves_bytes:
        return None
    if (len(before) == 2) == (len(after) == 2):
        raise _unknown(first.key)
    for layout in (last.layout, first.layout):
        if between(before, after, layout).merged() == moved.merged():
            geometry = first.geometry if len(after) == 2 else last.geometry
            return Effect(first.key, before, after, layout, geometry)
    raise _unknown(first.key)


def _unknown(key: str) -> MismatchError:
    message = f"the recipe's steps for {key} together are no change that a drop-in module makes"
    return MismatchError("CS084", message, hint="restore the file and swap it anew")
