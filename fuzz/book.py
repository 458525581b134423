"""A second reader of headers, by the book: a general JSON parser, then every rule of the README.

It shares nothing with `convsurgeon.header`, and is allowed to be slow and hungry. Where it accepts
what the reference accepts, and the package refuses, the package is too strict.
"""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

_NAMES: Final = {
    4: "F4",
    6: "F6_E2M3 F6_E3M2",
    8: "BOOL U8 I8 F8_E5M2 F8_E4M3 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ",
    16: "I16 U16 F16 BF16",
    32: "I32 U32 F32",
    64: "C64 F64 I64 U64",
}
_BITS: Final = {name: bits for bits, names in _NAMES.items() for name in names.split()}
_FIELDS: Final = {"dtype", "shape", "data_offsets"}


class MalformedError(ValueError):
    """A rule of the README is broken; which one does not matter here."""


def data_bytes(text: bytes) -> int:
    """Return the bytes of data that a header describes.

    Raises:
        ValueError: where a rule is broken.
    """
    if not text.startswith(b"{"):
        raise MalformedError
    trimmed = text.decode("utf-8").rstrip(" ")
    content = json.loads(
        trimmed, object_pairs_hook=_once, parse_int=_size, parse_float=_no, parse_constant=_no
    )
    if not trimmed.endswith("}") or not isinstance(content, dict):
        raise MalformedError
    metadata = content.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(map(_is_text, (*metadata, *metadata.values()))):
        raise MalformedError
    if not all(map(_is_text, content)):
        raise MalformedError
    end = 0
    for first, last in sorted(_range(entry) for entry in content.values()):
        if first != end:
            raise MalformedError
        end = last
    return end


def _range(entry: Any) -> tuple[int, int]:
    if not isinstance(entry, dict) or entry.keys() != _FIELDS:
        raise MalformedError
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in _BITS:
        raise MalformedError
    if not (isinstance(shape, list) and isinstance(offsets, list) and len(offsets) == 2):
        raise MalformedError
    if not all(type(n) is int and n < 1 << 64 for n in (*shape, *offsets)):
        raise MalformedError
    elements, nonzero = 1, 1
    for size in shape:
        elements, nonzero = elements * size, nonzero * (size or 1)
    bits = _BITS[entry["dtype"]]
    first, last = offsets
    if nonzero * bits >= 1 << 64 or elements * bits != 8 * (last - first) or len(shape) > 64:
        raise MalformedError
    return first, last


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise MalformedError
    return dict(pairs)


def _size(digits: str) -> int:
    if digits.startswith("-") or len(digits) > 20:  # -0 is none, though it is 0
        raise MalformedError
    return int(digits)


def _no(_: str) -> NoReturn:
    raise MalformedError


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not any("\ud800" <= c <= "\udfff" for c in value)
