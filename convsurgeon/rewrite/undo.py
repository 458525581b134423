"""Recipe -> the original file."""

from __future__ import annotations

import base64
import hashlib
import zlib

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
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    for step in reversed(recipe.steps):
        if shapes.get(step.key) != step.target_shape:
            stored = shapes.get(step.key)
            message = f"{step.key} is {stored}, the recipe made it {step.target_shape}"
            raise RecipeError("CS082", message)
        moves[step.key] = _then(moves.get(step.key, ()), step.arrangement.inverse())
        shapes[step.key] = step.source_shape
    for tensor in header.tensors:
        if tensor.name in moves and tensor.dtype not in PLAIN_FLOATS:
            raise RecipeError("CS082", f"no step can have moved {tensor.name}: {tensor.dtype}")
    tensors = tuple(t._replace(shape=shapes[t.name]) for t in header.tensors)
    return Output(_prefix(header, tensors, recipe), header, moves)


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
