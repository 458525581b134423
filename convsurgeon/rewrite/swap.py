"""Plan -> the file that carries it out, with the recipe that can undo it."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Sequence

from convsurgeon.errors import RecipeError
from convsurgeon.geometry import LINEAR
from convsurgeon.header import Header, TensorInfo, lay_out, padded_length
from convsurgeon.header.layout import text_length
from convsurgeon.plan import (
    METADATA_KEY,
    LayerPlan,
    Original,
    Recipe,
    Step,
    recipe_of,
)
from convsurgeon.rewrite.output import Output
from convsurgeon.store import CHUNK, PICKLE_SUFFIXES, Reader, Source
from convsurgeon.tree import renamed_layer
from convsurgeon.untrusted import is_file_name


def swapped(source: Source, reader: Reader, layers: Sequence[LayerPlan], tool: str) -> Output:
    """Return the file in which the layers are rewritten.

    Args:
        source: the file that holds them.
        reader: of that file.
        layers: those of the plan that have a rewrite and stand in this file.
        tool: name and version for the recipe.

    Raises:
        RecipeError: CS082 where the file has a damaged recipe.
    """
    header = source.header
    rewrites = {layer.key: layer.rewrite for layer in layers if layer.rewrite}
    recipe = recipe_after(source, reader, layers, tool)
    old = [(k, v) for k, v in header.metadata or () if k != METADATA_KEY]
    new = Header(reshaped(header, layers), (*old, (METADATA_KEY, recipe.to_text())))
    like = None if _is_pickle(source) else len(reader.prefix()) - 8
    prefix = lay_out(new, padded_length(text_length(new), like))
    return Output(prefix, header, {key: (r.arrangement,) for key, r in rewrites.items()})


def reshaped(header: Header, layers: Sequence[LayerPlan]) -> tuple[TensorInfo, ...]:
    """Return the tensors of a header with the shapes and the names that the layers get."""
    rewrites = [(layer.key, layer.rewrite) for layer in layers if layer.rewrite]
    shapes = {key: rewrite.weight_shape for key, rewrite in rewrites}
    names: dict[str, str] = {}
    for key, rewrite in rewrites:
        if rewrite.child:
            names |= renamed_layer(key, inwards=rewrite.to == LINEAR)
    return tuple(
        t._replace(name=names.get(t.name, t.name), shape=shapes.get(t.name, t.shape))
        for t in header.tensors
    )


def recipe_after(source: Source, reader: Reader, layers: Sequence[LayerPlan], tool: str) -> Recipe:
    """Return the recipe of the file in which the layers are rewritten; see `swapped`."""
    steps = tuple(_step(source, reader, layer) for layer in layers if layer.rewrite)
    before = recipe_of(source.header)
    if before is not None:
        return Recipe(tool, before.original, (*before.steps, *steps))
    return Recipe(tool, _original(source, reader.prefix()), steps)


def _step(source: Source, reader: Reader, layer: LayerPlan) -> Step:
    if layer.rewrite is None or layer.geometry is None or layer.evidence is None:
        raise ValueError(f"{layer.module} has nothing to record")
    return Step(
        key=layer.key,
        rule=layer.rewrite.rule,
        layout=layer.rewrite.layout,
        source_form=layer.form,
        source_shape=layer.weight_shape,
        target_form=layer.rewrite.to,
        target_shape=layer.rewrite.weight_shape,
        geometry=layer.geometry,
        evidence=layer.evidence,
        sha256=_digest(reader, source.header.by_name[layer.key]),
        child=layer.rewrite.child,
    )


def _digest(reader: Reader, tensor: TensorInfo) -> str:
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(min(CHUNK, tensor.nbytes)))
    for begin in range(tensor.begin, tensor.end, CHUNK):
        piece = buffer[: tensor.end - begin]
        reader.fill(piece, begin)
        digest.update(piece)
    return digest.hexdigest()


def _original(source: Source, prefix: bytes) -> Original:
    header = source.header
    laid_out_again = lay_out(header, len(prefix) - 8) if _fits(header, prefix) else b""
    unusual = laid_out_again != prefix
    name = source.path.with_suffix(".safetensors").name if _is_pickle(source) else source.path.name
    if not is_file_name(name):
        what = "a backslash, a control character or a byte that is no UTF-8"
        message = f"the file's name has {what}, which no recipe records"
        raise RecipeError("CS082", message, where=source.path, hint="rename the file")
    return Original(
        name=name,
        header_length=len(prefix) - 8,
        header_sha256=hashlib.sha256(prefix).hexdigest(),
        has_metadata=header.metadata is not None,
        header=base64.b64encode(zlib.compress(prefix, 9)).decode("ascii") if unusual else None,
        dropped=source.dropped,
    )


def _fits(header: Header, prefix: bytes) -> bool:
    return text_length(header) <= len(prefix) - 8


def _is_pickle(source: Source) -> bool:
    return source.path.suffix in PICKLE_SUFFIXES
