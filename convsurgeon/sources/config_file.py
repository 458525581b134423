"""A `config.json` as data: bytes that somebody else wrote -> a JSON object, or an error."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from convsurgeon.errors import RefusedError
from convsurgeon.sources.small_file import content_of

MAX_BYTES = 16_000_000
"""More than any real one: 22,000 labels in both directions take 2 MB."""


def read_object(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        RefusedError: CS063 where it cannot be read, is no regular file, is too large, is no JSON,
            names a key twice or is no object.
    """
    content = content_of(path, MAX_BYTES, partial(_stop, path))
    return parse_object(content, path)


def parse_object(content: bytes, where: object) -> dict[str, Any]:
    """Read the bytes of such a file; `where` names it in errors.

    Raises:
        RefusedError: CS063, see `read_object`.
    """
    if len(content) > MAX_BYTES:
        _stop(where, f"it has more than {MAX_BYTES} bytes")
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        _stop(where, f"byte {error.start} is not UTF-8")
    except ValueError as error:
        _stop(where, f"it is no JSON: {error}")
    except RecursionError:
        _stop(where, "it is nested too deeply")
    if not isinstance(value, dict):
        _stop(where, "it is no JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # Readers differ in which of the two they take.
        keys = [key for key, _ in pairs]
        twice = next(key for key in found if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:80]!r} stands twice in one object")
    return found


def _stop(where: object, why: str) -> NoReturn:
    raise RefusedError("CS063", f"the config cannot be read: {why}", where=where)
