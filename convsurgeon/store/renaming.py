"""Indexes whose tensors get other names."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path

from convsurgeon.bounded_json import object_of
from convsurgeon.errors import ShardError
from convsurgeon.limits import FORMAT_MAX_HEADER
from convsurgeon.store.index import index_content, weight_map_of

# A string, and the colon behind it if it is a key.
_STRING = re.compile(r'"((?:[^"\\]++|\\.)*+)"(?=(\s*:)?)')


def renamed_index(index: Path, names: Mapping[str, str]) -> bytes:
    """Return an index in which tensors have other names; every other byte stays.

    Args:
        index: the index file.
        names: old name -> new; those that it does not hold are passed over.

    Raises:
        ShardError: CS045 for a malformed index, or one that spells a name in such a way that the
            change could not be taken back byte for byte.
    """
    content = index_content(index, FORMAT_MAX_HEADER)
    weight_map = weight_map_of(content)
    wanted = {old: new for old, new in names.items() if old in weight_map}
    text = _STRING.sub(lambda found: _renamed(found, wanted), content.decode("utf-8"))
    expected = {wanted.get(key, key): file for key, file in weight_map.items()}
    if json.loads(text) != {**object_of(content), "weight_map": expected}:
        message = "a name in the index is spelled with escapes, or stands elsewhere too"
        hint = "write the index anew, or leave --child-keys out"
        raise ShardError("CS045", message, where=index, hint=hint)
    return text.encode("utf-8")


def _renamed(found: re.Match[str], names: Mapping[str, str]) -> str:
    raw, colon = found.groups()
    old = json.loads(found[0]) if colon else ""
    if old not in names:
        return found[0]
    new = names[old]
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(old, new, strict=False)))
    # Only what differs is written anew: taking it back gives the very bytes.
    return f'"{raw.removesuffix(old[same:])}{new[same:]}"'
