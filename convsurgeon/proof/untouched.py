"""Everything of two files that is not a rewritten weight: names, headers, metadata, bytes."""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from convsurgeon.header import Header, TensorInfo, lay_out
from convsurgeon.plan import METADATA_KEY, Original, recipe_of
from convsurgeon.proof.ranges import Progress, equal_bytes
from convsurgeon.store import Reader
from convsurgeon.untrusted import safe

_TRIED = 4
"""Tensors whose bytes are looked at for one that is missing."""


@dataclass(frozen=True)
class Opened:
    """A file of which tensors are read.

    Attributes:
        header: of the file.
        reader: of its data.
        declared: names of the original -> what its recipe has renamed them to.
    """

    header: Header
    reader: Reader
    declared: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def tensors(self) -> dict[str, TensorInfo]:
        """The tensors by the names of the original; see `wrong_names` for where they are not so."""
        here = self.header.by_name
        old = {new: name for name, new in self.declared.items() if name not in here}
        return {old.get(name, name): tensor for name, tensor in here.items()}


def wrong_names(header: Header, declared: Mapping[str, str]) -> Iterator[str]:
    """Yield in which names a file is not what its recipe declares."""
    for old, new in declared.items():
        if new not in header.by_name:
            yield f"tensor {safe(old)} is not named {safe(new)}, as the recipe says"
        if old in header.by_name:
            yield f"tensor {safe(old)} is there, which the recipe says was named {safe(new)}"


def untouched_differences(
    before: Opened,
    after: Opened,
    keys: Collection[str],
    renamed: Mapping[str, str],
    progress: Progress,
) -> tuple[str, ...]:
    """Return what is not equal beside the rewritten weights, one line each.

    Args:
        before: the original.
        after: the swapped file.
        keys: names of the rewritten weights in the original.
        renamed: name in the original -> name in the swapped file, where they differ.
        progress: called with the number of bytes compared since the last call.
    """
    old, new = before.tensors, after.tensors
    found = [
        *wrong_names(after.header, after.declared),
        *_names(old, new, renamed),
        *_metadata(before.header, after.header),
        *_headers(old, new, keys),
        *_recorded_original(before, after.header),
    ]
    for begin, end, shift, names in _ranges(before.header, new, keys):
        if not equal_bytes(before.reader, after.reader, begin, end, shift, progress):
            found += _name_them(before, after, names)
    return tuple(found)


def find_renamed(before: Opened, after: Opened, keys: Collection[str]) -> dict[str, str]:
    """Return tensors that stand under another name in the swapped file, byte for byte.

    Args:
        before: the original.
        after: the swapped file.
        keys: names that are not looked for: the rewritten weights on either side.
    """
    old, new = before.tensors, after.tensors
    missing = [name for name in old if name not in new and name not in keys]
    extra: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for name, tensor in new.items():
        if name not in old and name not in keys:
            extra.setdefault((tensor.dtype, tensor.shape), []).append(name)
    found = {}
    for name in missing:
        alike = extra.get((old[name].dtype, old[name].shape), [])
        alike.sort(key=lambda other: -common_parts(name, other))
        for other in alike[:_TRIED]:
            if _same_data(before, after, old[name], new[other]):
                found[name] = other
                alike.remove(other)
                break
    return found


def common_parts(one: str, other: str) -> int:
    """Count the dotted components that two names have in common at both ends."""
    first, second = one.split("."), other.split(".")
    shared = sum(a == b for a, b in zip(first, second, strict=False))
    return shared + sum(a == b for a, b in zip(first[::-1], second[::-1], strict=False))


def _same_data(before: Opened, after: Opened, old: TensorInfo, new: TensorInfo) -> bool:
    shift = new.begin - old.begin
    return equal_bytes(before.reader, after.reader, old.begin, old.end, shift, lambda _: None)


def _names(
    old: dict[str, TensorInfo], new: dict[str, TensorInfo], renamed: Mapping[str, str]
) -> Iterator[str]:
    for name in old:
        if name in renamed:
            yield f"tensor {safe(name)} is named {safe(renamed[name])}"
        elif name not in new:
            yield f"tensor {safe(name)} is missing"
    taken = set(renamed.values())
    extra = (name for name in new if name not in old and name not in taken)
    yield from (f"tensor {safe(name)} was not in the original" for name in extra)


def _metadata(original: Header, swapped: Header) -> Iterator[str]:
    before, after = dict(original.metadata_map), dict(swapped.metadata_map)
    before.pop(METADATA_KEY, None)
    after.pop(METADATA_KEY, None)
    if METADATA_KEY in original.metadata_map and METADATA_KEY not in swapped.metadata_map:
        yield f"metadata {METADATA_KEY}, the recipe of an earlier swap, is missing"
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            yield f"metadata {safe(key)} changed"


def _recorded_original(before: Opened, swapped: Header) -> Iterator[str]:
    """Hold what `restore` will give back the original by against the original itself."""
    recipe = recipe_of(swapped)
    if recipe is None:
        return
    earlier, said = recipe_of(before.header), recipe.original
    if earlier is not None:
        if said != earlier.original:
            yield "the recipe does not know the first original as the original's own does"
        return
    prefix = before.reader.prefix()
    if hashlib.sha256(prefix).hexdigest() != said.header_sha256:
        yield "the recipe's digest of the header is not that of the original"
    elif _rebuilt(said, before.header) != prefix:
        yield "the recipe does not describe the original's header"


def _rebuilt(said: Original, header: Header) -> bytes:
    """Return the header that a recipe gives back; nothing where it cannot."""
    length = said.header_length
    try:
        if said.header is None:
            metadata = (header.metadata or ()) if said.has_metadata else None
            return lay_out(replace(header, metadata=metadata), length)
        packed = base64.b64decode(said.header, validate=True)
        return zlib.decompressobj().decompress(packed, length + 8)
    except (ValueError, zlib.error):
        return b""


def _headers(
    old: dict[str, TensorInfo], new: dict[str, TensorInfo], keys: Collection[str]
) -> Iterator[str]:
    for name, tensor in old.items():
        other = new.get(name)
        if other is None or name in keys:
            continue
        if (tensor.dtype, tensor.shape) != (other.dtype, other.shape):
            was, now = f"{tensor.dtype} {list(tensor.shape)}", f"{other.dtype} {list(other.shape)}"
            yield f"tensor {safe(name)} was {was}, is {now}"


def _ranges(
    header: Header, new: dict[str, TensorInfo], keys: Collection[str]
) -> Iterator[tuple[int, int, int, list[str]]]:
    """Yield ranges of untouched data that both files hold in one piece, with their shift."""
    begin = end = shift = 0
    names: list[str] = []
    for tensor in header.in_data_order:
        other = new.get(tensor.name)
        if other is None or tensor.name in keys or other.nbytes != tensor.nbytes:
            continue
        if names and (tensor.begin != end or other.begin - tensor.begin != shift):
            yield begin, end, shift, names
            names = []
        if not names:
            begin, shift = tensor.begin, other.begin - tensor.begin
        end = tensor.end
        names.append(tensor.name)
    if names:
        yield begin, end, shift, names


def _name_them(before: Opened, after: Opened, names: list[str]) -> Iterator[str]:
    for name in names:
        if not _same_data(before, after, before.tensors[name], after.tensors[name]):
            yield f"tensor {safe(name)} has other bytes"
