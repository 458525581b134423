"""A file alone: against the digests in its own recipe."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from math import prod

from convsurgeon.dtypes import itemsize
from convsurgeon.errors import RecipeError
from convsurgeon.plan import recipe_of
from convsurgeon.proof.bits import row_blocks
from convsurgeon.proof.figures import Bits
from convsurgeon.proof.order import Rows, backward
from convsurgeon.proof.pairing import Pair, check_dtype, pairs
from convsurgeon.proof.untouched import wrong_names
from convsurgeon.proof.verdict import FileVerdict, LayerVerdict
from convsurgeon.store import Source


def check_recorded(swapped: Source) -> FileVerdict:
    """Check that every rewritten weight is the one whose digest was recorded.

    Nothing can be said about the other tensors: the scope of the verdict is `rewritten`.

    Raises:
        RecipeError: CS081 where the file has no recipe, CS082 where it is damaged.
    """
    recipe = recipe_of(swapped.header)
    if recipe is None:
        hint = "name the original too: convsurgeon verify ORIGINAL SWAPPED"
        message = "the file has no recipe"
        raise RecipeError("CS081", message, where=swapped.path, hint=hint)
    found = pairs(recipe.steps)
    layers = tuple(_layer(swapped, pair) for pair in found)
    return FileVerdict("", swapped.path.name, layers, 0, tuple(_left_behind(swapped, found)))


def _left_behind(swapped: Source, found: tuple[Pair, ...]) -> Iterator[str]:
    """Yield the tensors that still have a name which the recipe has taken from them."""
    names = {old: new for pair in found for old, new in pair.renamed.items()}
    there = {old: new for old, new in names.items() if old in swapped.header.by_name}
    return wrong_names(swapped.header, there)


def _layer(swapped: Source, pair: Pair) -> LayerVerdict:
    first, last = pair.steps[0], pair.steps[-1]
    tensor = swapped.header.by_name.get(pair.name)
    return LayerVerdict(
        module=first.module,
        key=pair.key,
        forms=(pair.before.form, pair.after.form),
        shapes=(pair.before.shape, tensor.shape if tensor else ()),
        given=(last.geometry, *last.evidence),
        bits=_bits(swapped, pair),
    )


def _bits(swapped: Source, pair: Pair) -> Bits:
    elements = prod(pair.before.shape)
    tensor = swapped.header.by_name.get(pair.name)
    if tensor is None:
        return Bits(equal=False, elements=elements, note="the tensor is missing")
    if tensor.shape != pair.after.shape:
        note = f"the shape is {list(tensor.shape)}, the recipe says {list(pair.after.shape)}"
        return Bits(equal=False, elements=elements, note=note)
    check_dtype(tensor)
    digest = hashlib.sha256()
    with swapped.reader() as reader:
        for begin, end in row_blocks(tensor, tensor.nbytes // tensor.shape[0]):
            rows: Rows = reader.read(begin, end)
            for step in reversed(pair.steps):
                rows = backward(rows, step, itemsize(tensor.dtype))
            digest.update(rows)
    found, note = digest.hexdigest(), ""
    if found != pair.steps[0].sha256:
        note = "its elements do not have the digest that the recipe recorded"
    return Bits(not note, elements, note=note, sha256=found)
