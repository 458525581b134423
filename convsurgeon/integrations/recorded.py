"""What the recipes of a checkpoint did to each weight, all steps taken together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce

from convsurgeon.errors import ConvsurgeonError, MismatchError, RecipeError
from convsurgeon.geometry import Geometry
from convsurgeon.plan import Step, chains, first_names, recipe_of
from convsurgeon.rearrangement import Rearrangement, between
from convsurgeon.store import Checkpoint, Source


@dataclass(frozen=True, slots=True)
class Effect:
    """The change of one weight.

    Attributes:
        key: its name in the file.
        move: from the shape before the first step to the one that is stored.
        layout: order in which the linear side is flattened; None where the steps together are no
            mere flattening, nor the reverse.
        geometry: of the conv, whichever side it stands on.
    """

    key: str
    move: Rearrangement
    layout: str | None
    geometry: Geometry

    @property
    def before(self) -> tuple[int, ...]:
        """Shape before the first step."""
        return self.move.source

    @property
    def after(self) -> tuple[int, ...]:
        """Shape as it is stored."""
        return self.move.target

    @property
    def to_linear(self) -> bool:
        """Whether a conv became a linear layer; else the reverse."""
        return len(self.after) == 2

    @property
    def conv_shape(self) -> tuple[int, ...]:
        """Shape of the conv's weight."""
        return self.before if self.to_linear else self.after


@dataclass(frozen=True, slots=True)
class Recorded:
    """What all recipes of a checkpoint say.

    Attributes:
        effects: by the key of the weight; without those that came back to where they began.
        names: what weights and biases were called at first, by their keys, where that differs. A
            bias is listed whether there is one or not.
    """

    effects: dict[str, Effect]
    names: dict[str, str]


def recorded(checkpoint: Checkpoint) -> Recorded:
    """Read the recipes of a checkpoint.

    Raises:
        RecipeError: CS082 where one is damaged or does not fit its tensors.
        MismatchError: CS084 where the steps for a tensor together are no single rearrangement.
    """
    found = Recorded({}, {})
    for source in checkpoint.sources:
        try:
            recipe = recipe_of(source.header)
            steps = recipe.steps if recipe else ()
            found.effects.update((one.key, one) for one in _effects(source, steps))
        except ConvsurgeonError as error:
            raise error.at(source.path) from None
        found.names.update(first_names(steps))
    return found


def _effects(source: Source, steps: tuple[Step, ...]) -> Iterator[Effect]:
    for key, chain in chains(steps).items():
        info, made = source.header.by_name.get(key), chain[-1].target_shape
        if info is None or info.shape != made:
            stored = "missing" if info is None else list(info.shape)
            raise RecipeError("CS082", f"{key} is {stored}, the recipe made it {list(made)}")
        move = _net(key, chain)
        if move.source != move.target or move.moves_bytes:
            geometry = (chain[0] if len(move.target) == 2 else chain[-1]).geometry
            yield Effect(key, move, _layout(move, chain), geometry)


def _net(key: str, chain: tuple[Step, ...]) -> Rearrangement:
    try:
        return reduce(Rearrangement.then, (step.arrangement for step in chain))
    except ValueError:
        message = f"the recipe's steps for {key} together are no single rearrangement"
        hint = "restore the file and swap it anew"
        raise MismatchError("CS084", message, hint=hint) from None


def _layout(move: Rearrangement, chain: tuple[Step, ...]) -> str | None:
    if (len(move.source) == 2) == (len(move.target) == 2):
        return None
    layouts = (chain[-1].layout, chain[0].layout)
    flat = (
        one for one in layouts if between(move.source, move.target, one).merged() == move.merged()
    )
    return next(flat, None)
