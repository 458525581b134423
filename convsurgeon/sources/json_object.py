"""Bytes that somebody else wrote -> one JSON object, or a reason why not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn


def object_of(content: bytes, stop: Callable[[str], NoReturn]) -> dict[str, Any]:
    """Return the object that the bytes hold as UTF-8; no key stands twice in any object of it.

    Args:
        content: of a file.
        stop: raises the caller's error for a reason.
    """
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        stop(f"byte {error.start} is not UTF-8")
    except ValueError as error:
        stop(f"it is no JSON: {error}")
    except RecursionError:
        stop("it is nested too deeply")
    if not isinstance(value, dict):
        stop("it is no JSON object")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # Readers differ in which of the two they take.
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice[:80]!r} stands twice in one object")
    return found
