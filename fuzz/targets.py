"""What must hold of every input, one function for each reader of bytes that strangers write.

A target returns what became of the input, and raises `Finding` where a promise is broken. Any other
exception than the one refusal that the reader documents is a finding as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

import safetensors

from convsurgeon.errors import ConvsurgeonError
from convsurgeon.header import Header, describe, lay_out, parse

ACCEPTED, REFUSED, LARGE = "accepted", "refused", "too large to compare"
Target = Callable[[bytes], str]

_DESERIALIZE: Any = safetensors.deserialize
_DATA: Final = bytes((7 * i + i // 256) % 251 for i in range(1 << 16))
"""Tensor data for the reference; neighbouring places differ, so that offsets are compared."""


class Finding(AssertionError):  # noqa: N818 (it is no error of the program)
    """A promise that does not hold of some input."""


def header(text: bytes) -> str:
    """What our parser accepts, the reference accepts, with the same content; and so on for ours."""
    try:
        found = describe(text)
    except ConvsurgeonError:
        return REFUSED
    size = found.data_bytes
    _refuses(text, size + 1)
    if size > len(_DATA):
        return LARGE
    _compare(text, found)
    _equal("what we write and what we read", parse(lay_out(found)[8:], size), found)
    return ACCEPTED


def _refuses(text: bytes, data_bytes: int) -> None:
    try:
        parse(text, data_bytes)
    except ConvsurgeonError:
        return
    raise Finding(f"{data_bytes} bytes of data were accepted")


def _compare(text: bytes, ours: Header) -> None:
    data = _DATA[: ours.data_bytes]
    try:
        read = _DESERIALIZE(len(text).to_bytes(8, "little") + text + data)
    except Exception as error:
        raise Finding(f"the reference refuses what we accept: {error}") from error
    theirs = {name: (e["dtype"], tuple(e["shape"]), bytes(e["data"])) for name, e in read}
    mine = {t.name: (t.dtype, t.shape, data[t.begin : t.end]) for t in ours.tensors}
    _equal("tensors", mine, theirs)
    metadata = json.loads(text).get("__metadata__")
    _equal("metadata", None if ours.metadata is None else ours.metadata_map, metadata)


def _equal(what: str, ours: object, theirs: object) -> None:
    if ours != theirs:
        raise Finding(f"{what} differ: {ours!r:.500} and {theirs!r:.500}")


TARGETS: Final[dict[str, Target]] = {"header": header}
