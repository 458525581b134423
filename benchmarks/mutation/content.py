"""Safetensors files as values, read and written by a few lines that share nothing with the package.

The rules are those of the format's README (https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any, NamedTuple

Shape = tuple[int, ...]
RECIPE = "convsurgeon"
"""The metadata key that holds the record of a swap."""
_BY_SIZE = {
    8: "F64 I64 U64",
    4: "F32 I32 U32",
    2: "F16 BF16 I16 U16",
    1: "F8_E5M2 F8_E4M3 F8_E5M2FNUZ F8_E4M3FNUZ I8 U8 BOOL",
}
SIZES = {name: size for size, names in _BY_SIZE.items() for name in names.split()}
"""Bytes of an element."""


class Tensor(NamedTuple):
    """One tensor as it stands in a file."""

    dtype: str
    shape: Shape
    data: bytes


@dataclass(frozen=True)
class Content:
    """What a file holds: tensors in the order of their data, and metadata."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]

    def having(self, **tensors: Tensor) -> Content:
        """Return it with some tensors replaced, in their places, or added at the end."""
        return replace(self, tensors={**self.tensors, **tensors})

    def without(self, name: str) -> Content:
        """Return it without one tensor."""
        rest = {key: tensor for key, tensor in self.tensors.items() if key != name}
        return replace(self, tensors=rest)

    def silent(self, key: str) -> Content:
        """Return it without one metadata entry."""
        rest = {name: value for name, value in self.metadata.items() if name != key}
        return replace(self, metadata=rest)

    def saying(self, **metadata: str) -> Content:
        """Return it with some metadata replaced or added."""
        return replace(self, metadata={**self.metadata, **metadata})


def pack(content: Content, entries: Mapping[str, Any] | None = None) -> bytes:
    """Return the file.

    Args:
        content: what it holds.
        entries: the header's, where it shall not be the one that belongs to the content.
    """
    if entries is None:
        entries = header(content)
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = b"".join(tensor.data for tensor in content.tensors.values())
    return len(text).to_bytes(8, "little") + text + data


def header(content: Content) -> dict[str, Any]:
    """Return the header of a file as JSON has it."""
    entries: dict[str, Any] = {"__metadata__": dict(content.metadata)}
    end = 0
    for name, (dtype, shape, data) in content.tensors.items():
        begin, end = end, end + len(data)
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    return entries


def data_start(file: bytes) -> int:
    """Return where the data of a file begins."""
    return 8 + int.from_bytes(file[:8], "little")


def unpack(file: bytes) -> Content:
    """Read a file.

    Raises:
        ValueError: where it breaks a rule of the format.
    """
    start = data_start(file)
    if len(file) < 8 or start > len(file):
        raise ValueError("shorter than its header")
    text = file[8:start].decode()
    if not text.startswith("{"):
        raise ValueError("the header does not begin with a brace")
    entries = json.loads(text, object_pairs_hook=_unique)
    metadata = entries.pop("__metadata__", {})
    if not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("metadata are texts")
    tensors, end = {}, 0
    found = [(*_offsets(entry), name, entry) for name, entry in entries.items()]
    for begin, until, name, entry in sorted(found, key=lambda one: one[:2]):
        data = file[start + begin : start + until]
        if begin != end or until - begin != SIZES[entry["dtype"]] * prod(entry["shape"]):
            raise ValueError(f"{name} does not fill its place")
        tensors[name] = Tensor(entry["dtype"], tuple(entry["shape"]), data)
        end = until
    if start + end != len(file):
        raise ValueError("the data do not end with the file")
    return Content(tensors, metadata)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a name stands twice")
    return content


def _offsets(entry: Any) -> tuple[int, int]:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError("no entry of a tensor")
    begin, end = entry["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (begin, end, *entry["shape"])):
        raise ValueError("sizes and offsets are whole numbers")
    if entry["dtype"] not in SIZES:
        raise ValueError("an unknown dtype")
    return begin, end
