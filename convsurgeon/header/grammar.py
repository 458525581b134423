"""The header's JSON, read with the grammar of the format and nothing more general.

A general JSON parser has to build whatever a hostile file nests before anyone can refuse it, takes
the last of two equal keys, and accepts floats, NaN and 5,000-digit integers. This grammar has three
levels and three kinds of values, so it is linear in time and memory, and says where it stopped.
Every repetition is possessive: nothing is ever tried twice.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import NoReturn

from convsurgeon.errors import HeaderError
from convsurgeon.header.value import MAX_METADATA, MAX_RANK, TensorInfo

_WS = r"[ \t\n\r]*+"
_STRING = r'"((?:[^"\\\x00-\x1f]++|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*+)"'
_INT = r"(?:0|[1-9][0-9]{0,19}+)"  # 20 digits hold every u64
_COMMA = rf"{_WS},{_WS}"

_DTYPE = r'"([A-Z0-9_]{1,32}+)"'
_SIZES = rf"(?:{_INT}(?:{_COMMA}{_INT}){{0,{MAX_RANK - 1}}}+)?"

_KEY = re.compile(rf"{_WS}{_STRING}{_WS}:{_WS}")
_TEXT = re.compile(_STRING)
_OPEN = re.compile(rf"\{{{_WS}")
_SEPARATOR = re.compile(rf"{_WS}([,}}])")
_FIELDS = {
    "dtype": re.compile(_DTYPE),
    "shape": re.compile(rf"\[{_WS}({_SIZES}){_WS}\]"),
    "data_offsets": re.compile(rf"\[{_WS}({_INT}{_COMMA}{_INT}){_WS}\]"),
}
# What every known writer writes, alone and in the middle of others; one match instead of ten for
# files with 100,000 tensors.
_COMPACT = re.compile(
    rf'{{"dtype":{_DTYPE},"shape":\[({_SIZES})\],"data_offsets":\[({_INT}),({_INT})\]}}'
)
_ENTRY = re.compile(rf'"([^"\\\x00-\x1f]*+)":{_COMPACT.pattern},')
_FIELD_KEY = re.compile(rf'{_WS}"(dtype|shape|data_offsets)"{_WS}:{_WS}')

_unescape = json.JSONDecoder().raw_decode

Metadata = tuple[tuple[str, str], ...]


def read(text: str) -> tuple[list[TensorInfo], Metadata | None]:
    """Read the JSON text of a header into unvalidated entries, in their order.

    Raises:
        HeaderError: CS040, with the position of the first character that does not fit.
    """
    tensors: list[TensorInfo] = []
    metadata: Metadata | None = None
    position = _opening(text, 0)
    if text[position : position + 1] == "}":
        return tensors, _end(text, position + 1, None)
    while True:
        entry = _ENTRY.match(text, position)
        if entry and entry[1] != "__metadata__":
            name, dtype, sizes, begin, end = entry.groups()
            tensors.append(TensorInfo(name, dtype, _shape(sizes), int(begin), int(end)))
            position = entry.end()
            continue
        name, position = _key(text, position)
        if name == "__metadata__":
            if metadata is not None:
                _stop(position, "a second __metadata__")
            metadata, position = _read_metadata(text, position)
        else:
            tensor, position = _read_tensor(text, position, name)
            tensors.append(tensor)
        mark, position = _separator(text, position)
        if mark == "}":
            return tensors, _end(text, position, metadata)


def _read_tensor(text: str, position: int, name: str) -> tuple[TensorInfo, int]:
    compact = _COMPACT.match(text, position)
    if compact:
        dtype, sizes, begin, end = compact.groups()
        return TensorInfo(name, dtype, _shape(sizes), int(begin), int(end)), compact.end()
    position = _opening(text, position)
    fields: dict[str, str] = {}
    for expected in (",", ",", "}"):
        match = _FIELD_KEY.match(text, position)
        if not match or match[1] in fields:
            _stop(position, "one each of dtype, shape and data_offsets belongs here")
        value = _FIELDS[match[1]].match(text, match.end())
        if not value:
            _stop(match.end(), f"this is no {match[1]}")
        fields[match[1]] = value[1]
        mark, position = _separator(text, value.end())
        if mark != expected:
            _stop(position - 1, "a tensor has exactly dtype, shape and data_offsets")
    first, last = map(int, fields["data_offsets"].split(","))
    return TensorInfo(name, fields["dtype"], _shape(fields["shape"]), first, last), position


@lru_cache(maxsize=1024)  # large checkpoints repeat a handful of shapes
def _shape(sizes: str) -> tuple[int, ...]:
    return tuple(map(int, sizes.split(","))) if sizes else ()


def _read_metadata(text: str, position: int) -> tuple[Metadata, int]:
    position = _opening(text, position)
    if text[position : position + 1] == "}":
        return (), position + 1
    entries: list[tuple[str, str]] = []
    while True:
        key, position = _key(text, position)
        value = _TEXT.match(text, position)
        if not value:
            _stop(position, "a metadata value is a string")
        entries.append((key, _decoded(text, value)))
        if len(entries) > MAX_METADATA:
            _stop(position, f"more than {MAX_METADATA} metadata entries")
        mark, position = _separator(text, value.end())
        if mark == "}":
            return tuple(entries), position


def _opening(text: str, position: int) -> int:
    match = _OPEN.match(text, position)
    if not match:
        _stop(position, "an object begins with '{'")
    return match.end()


def _key(text: str, position: int) -> tuple[str, int]:
    match = _KEY.match(text, position)
    if not match:
        _stop(position, "a name in quotes and a colon belong here")
    return _decoded(text, match), match.end()


def _separator(text: str, position: int) -> tuple[str, int]:
    match = _SEPARATOR.match(text, position)
    if not match:
        _stop(position, "a comma or '}' belongs here")
    return match[1], match.end()


def _end(text: str, position: int, metadata: Metadata | None) -> Metadata | None:
    # The README allows padding with 0x20 and nothing else.
    if text[position:].strip(" "):
        _stop(position, "only spaces may follow the closing '}'")
    return metadata


def _decoded(text: str, match: re.Match[str]) -> str:
    start, end = match.span(1)
    if text.find("\\", start, end) < 0:
        return text[start:end]
    decoded: str = _unescape(text, start - 1)[0]  # where it stands: a long name is not copied
    try:
        decoded.encode("utf-8")
    except UnicodeEncodeError:
        _stop(match.start(), "half of a surrogate pair")
    return decoded


def _stop(position: int, why: str) -> NoReturn:
    raise HeaderError("CS040", f"invalid safetensors header at character {position}: {why}")
