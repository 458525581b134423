"""What undoes the steps that the recipes of a checkpoint record."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce

from convsurgeon.errors import ConvsurgeonError, MismatchError, RecipeError
from convsurgeon.plan import recipe_of
from convsurgeon.plan.recipe import Step
from convsurgeon.rearrangement import Rearrangement
from convsurgeon.store import Checkpoint, Source


def ways_back(checkpoint: Checkpoint) -> dict[str, Rearrangement]:
    """Return, for each key that they changed, the way from the shape in the file to the first one.

    Raises:
        RecipeError: CS082 where a recipe is damaged or does not fit its tensors.
        MismatchError: CS084 where the steps for a tensor together are no single rearrangement.
    """
    found: dict[str, Rearrangement] = {}
    for source in checkpoint.sources:
        try:
            found.update(_of_file(source))
        except ConvsurgeonError as error:
            raise error.at(source.path) from None
    return found


def _of_file(source: Source) -> Iterator[tuple[str, Rearrangement]]:
    recipe = recipe_of(source.header)
    chains: dict[str, list[Step]] = {}
    for step in recipe.steps if recipe else ():
        chains.setdefault(step.key, []).append(step)
    for key, chain in chains.items():
        info, made = source.header.by_name.get(key), chain[-1].target_shape
        if info is None or info.shape != made:
            stored = "missing" if info is None else list(info.shape)
            raise RecipeError("CS082", f"{key} is {stored}, the recipe made it {list(made)}")
        way = _net(chain).inverse()
        if way.source != way.target or way.moves_bytes:
            yield key, way


def _net(chain: list[Step]) -> Rearrangement:
    try:
        return reduce(Rearrangement.then, (step.arrangement for step in chain))
    except ValueError:
        message = f"the recipe's steps for {chain[0].key} together are no single rearrangement"
        hint = "restore the file and swap it anew"
        raise MismatchError("CS084", message, hint=hint) from None
