"""A `config.json` as data: bytes that somebody else wrote -> a JSON object, or an error."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from convsurgeon.bounded_json import object_of
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
    return object_of(content, partial(_stop, where))


def _stop(where: object, why: str) -> NoReturn:
    raise RefusedError("CS063", f"the config cannot be read: {why}", where=where)
