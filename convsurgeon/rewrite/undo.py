"""Recipe -> the original file."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Mapping

from convsurgeon.dtypes import PLAIN_FLOATS
from convsurgeon.errors import HeaderError, RecipeError, UnreadableError
from convsurgeon.header import Header, TensorInfo, lay_out, parse
from convsurgeon.limits import FORMAT_MAX_HEADER
from convsurgeon.plan import METADATA_KEY, Recipe
from convsurgeon.rearrangement import Rearrangement
from convsurgeon.rewrite.output import Output


def undone(header: Header, recipe: Recipe) -> Output:
    """Return the file as it was before the first swap.

    Args:
        header: of the swapped file.
        recipe: its own.

    Raises:
        RecipeError: CS082 where the recipe does not fit the file, or where laying out the original
            header does not give the recorded digest.
    """
    moves: dict[str, tuple[Rearrangement, ...]] = {}
    tensors = {tensor.name: tensor for tensor in header.tensors}
    stored = {tensor.name: tensor.name for tensor in header.tensors}  # by the name at that step
    for step in reversed(recipe.steps):
        name = stored.get(step.target_key)
        shape = None if name is None else tensors[name].shape
        if name is None or shape != step.target_shape:
            message = f"{step.target_key} is {shape}, the recipe made it {step.target_shape}"
            raise RecipeError("CS082", message)
        if tensors[name].dtype not in PLAIN_FLOATS:
            raise RecipeError("CS082", f"no step can have moved {name}: {tensors[name].dtype}")
        moves[name] = _then(moves.get(name, ()), step.arrangement.inverse())
        tensors[name] = tensors[name]._replace(shape=step.source_shape)
        _rename(stored, step.names)
    before = {name: first for first, name in stored.items()}
    first = tuple(tensor._replace(name=before[name]) for name, tensor in tensors.items())
    return Output(_prefix(header, first, recipe), header, moves)


def _rename(stored: dict[str, str], names: Mapping[str, str]) -> None:
    """Take back the names that a step gave.

    Raises:
        RecipeError: CS082 where another tensor has the old name.
    """
    for old, new in names.items():
        if new not in stored:
            continue  # a layer without a bias
        if old in stored:
            raise RecipeError("CS082", f"{old} was named {new}, but stands there as well")
        stored[old] = stored.pop(new)


def _then(moves: tuple[Rearrangement, ...], back: Rearrangement) -> tuple[Rearrangement, ...]:
    if not moves:
        return (back,)
    try:
        return (*moves[:-1], moves[-1].then(back))
    except ValueError:  # two kernels that cut the inputs differently: one after the other
        return (*moves, back)


def _prefix(header: Header, tensors: tuple[TensorInfo, ...], recipe: Recipe) -> bytes:
    original = recipe.original
    try:
        if original.header is not None:
            prefix = _unpacked(original.header, original.header_length)
            before = parse(prefix[8:], header.data_bytes)
            if sorted(before.tensors) != sorted(tensors):
                raise RecipeError("CS082", "the recorded header describes other tensors")
        else:
            kept = tuple((k, v) for k, v in header.metadata or () if k != METADATA_KEY)
            metadata = kept if original.has_metadata else None
            prefix = lay_out(Header(tensors, metadata), original.header_length)
    except (ValueError, OverflowError, HeaderError, UnreadableError, zlib.error) as error:
        raise RecipeError("CS082", f"the original header cannot be rebuilt: {error}") from None
    if hashlib.sha256(prefix).hexdigest() != original.header_sha256:
        hint = "names, shapes or metadata changed since the swap"
        raise RecipeError("CS082", "the original header cannot be rebuilt", hint=hint)
    return prefix


def _unpacked(packed: str, length: int) -> bytes:
    if not 0 <= length <= FORMAT_MAX_HEADER:
        raise ValueError("the recorded header is larger than the format allows")
    unpacker = zlib.decompressobj()  # bounded: a few bytes can unpack to gigabytes
    return unpacker.decompress(base64.b64decode(packed, validate=True), length + 8)
