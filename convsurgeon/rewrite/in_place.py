"""A plan, or its undo, that changes nothing but the header, within the header's own length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from convsurgeon.errors import OutputError
from convsurgeon.header import Header
from convsurgeon.header.layout import fitted
from convsurgeon.header.parse import LENGTH_BYTES
from convsurgeon.plan import METADATA_KEY, LayerPlan, Recipe
from convsurgeon.rewrite.output import Output
from convsurgeon.rewrite.swap import recipe_after, reshaped
from convsurgeon.store import PICKLE_SUFFIXES, Reader, Source

_NEW_FILE = "write a new file instead: leave --in-place away"


@dataclass(frozen=True, slots=True)
class NewHeader:
    """What is written over the header of a file.

    Attributes:
        prefix: the length, which is the old one, and the header.
        recipe: what has to stand beside the file, since the header has no room for it; None where
            there is to be nothing.
    """

    prefix: bytes
    recipe: Recipe | None


def swapped_header(
    source: Source, reader: Reader, layers: Sequence[LayerPlan], tool: str
) -> NewHeader:
    """Return the header with which the layers are rewritten; see `swapped`.

    Where the recipe does not fit, the header keeps its metadata, less an older recipe: all of it
    then stands in the sidecar, and the header has none that would be out of date.

    Raises:
        OutputError: CS075 where that is not all it takes, or where it does not fit.
        RecipeError: CS082 where the file has a damaged recipe.
    """
    check_header_only(source, layers)
    length = len(reader.prefix()) - LENGTH_BYTES
    tensors = reshaped(source.header, layers)
    recipe = recipe_after(source, reader, layers, tool)
    others = tuple((k, v) for k, v in source.header.metadata or () if k != METADATA_KEY)
    full = Header(tensors, (*others, (METADATA_KEY, recipe.to_text())))
    if (prefix := fitted(full, length)) is not None:
        return NewHeader(prefix, None)
    bare = Header(tensors, others if others or recipe.original.has_metadata else None)
    if (prefix := fitted(bare, length)) is None:
        raise _unfit(source, "the new shapes do not fit into the header")
    return NewHeader(prefix, recipe)


def check_header_only(source: Source, layers: Sequence[LayerPlan]) -> None:
    """Refuse a plan that takes more than another header.

    Raises:
        OutputError: CS075 for a PyTorch file, and for weights whose elements change places, or
            whose names change: an index would have to change with them.
    """
    if source.path.suffix in PICKLE_SUFFIXES:
        raise _unfit(source, "a PyTorch file has no such header")
    for layer in layers:
        if layer.rewrite and layer.rewrite.arrangement.moves_bytes:
            raise _unfit(source, f"{layer.module} is permuted to {layer.rewrite.layout}")
        if layer.rewrite and layer.rewrite.child:
            raise _unfit(source, f"{layer.module} gets other names")


def undone_header(source: Source, reader: Reader, output: Output) -> NewHeader:
    """Return the header that undoes every step of a recipe.

    Args:
        source: the swapped file.
        reader: of that file.
        output: the original, from `undone`.

    Raises:
        OutputError: CS075 where elements moved, or the original's header has another length.
    """
    for name, moves in output.moves.items():
        if any(move.moves_bytes for move in moves):
            raise _unfit(source, f"the elements of {name} have to move back")
    if len(output.prefix) != len(reader.prefix()):
        raise _unfit(source, "the original's header has another length")
    return NewHeader(output.prefix, None)


def _unfit(source: Source, why: str) -> OutputError:
    message = f"not possible in place: {why}"
    return OutputError("CS075", message, where=source.path, hint=_NEW_FILE)
