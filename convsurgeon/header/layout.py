"""Header -> bytes. The one function that every writer uses."""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import prod

from convsurgeon.dtypes import BITS
from convsurgeon.header.parse import LENGTH_BYTES
from convsurgeon.header.value import Header, TensorInfo

_ALIGNMENT = 8
_BLOCK = 4096


def lay_out(header: Header, length: int | None = None) -> bytes:
    """Return the bytes in front of the data: eight of length, then the JSON, padded with spaces.

    Entries keep the order of `header`, metadata comes first; nothing else is free, so the same
    header gives the same bytes. For a header that the reference wrote this is the identity.

    Args:
        header: what to write.
        length: exact length of the JSON text with its padding; by default the next multiple of 8,
            so that the data begins aligned, as the reference does.

    Raises:
        ValueError: if the text is longer than `length`.
    """
    text = _render(header)
    length = padded_length(len(text)) if length is None else length
    if len(text) > length:
        raise ValueError(f"the header needs {len(text)} bytes, {length} were given")
    return _framed(text, length)


def fitted(header: Header, length: int) -> bytes | None:
    """Return what `lay_out` does; None where the text is longer than `length`."""
    text = _render(header)
    return _framed(text, length) if len(text) <= length else None


def _framed(text: bytes, length: int) -> bytes:
    return length.to_bytes(LENGTH_BYTES, "little") + text.ljust(length, b" ")


def padded_length(needed: int, like: int | None = None) -> int:
    """Return the smallest allowed length of a header text of `needed` bytes.

    With `like`, the length of the header that it replaces, the result is congruent to it modulo
    4096: the data then keeps its place within file system blocks, so that they can be shared.
    """
    step, rest = (_ALIGNMENT, 0) if like is None else (_BLOCK, like % _BLOCK)
    return needed + (rest - needed) % step


def text_length(header: Header) -> int:
    """Return the bytes of the JSON text without padding."""
    return len(_render(header))


def pack(
    tensors: Iterable[tuple[str, str, tuple[int, ...]]], metadata: dict[str, str] | None = None
) -> Header:
    """Assign offsets to tensors (name, dtype, shape) that have none yet.

    Largest dtypes first, then by name: every tensor begins aligned to its element, as in files of
    the reference.
    """
    rank = {dtype: -place for place, dtype in enumerate(BITS)}
    entries: list[TensorInfo] = []
    offset = 0
    for name, dtype, shape in sorted(tensors, key=lambda t: (rank[t[1]], t[0])):
        end = offset + prod(shape) * BITS[dtype] // 8
        entries.append(TensorInfo(name, dtype, shape, offset, end))
        offset = end
    return Header(tuple(entries), None if metadata is None else tuple(sorted(metadata.items())))


def _render(header: Header) -> bytes:
    # Entry by entry: objects of 100,000 tensors at once take five times the memory of their text.
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    entries = [] if header.metadata is None else [f'"__metadata__":{encode(dict(header.metadata))}']
    for t in header.tensors:
        shape = ",".join(map(str, t.shape))
        content = f'"dtype":"{t.dtype}","shape":[{shape}],"data_offsets":[{t.begin},{t.end}]'
        entries.append(f"{encode(t.name)}:{{{content}}}")
    return f"{{{','.join(entries)}}}".encode()
