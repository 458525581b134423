"""JSON that somebody else wrote: looked over in one linear pass, and only then parsed.

A general parser builds whatever a text nests or repeats before anyone can refuse it: three bytes of
`[],` become 72, and a number of a million digits takes minutes. The pass counts what would be built
without building it. (The header of a safetensors file has a stricter reader of its own, see
`header.grammar`.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, Final, NoReturn

MAX_DEPTH: Final = 64
MAX_NUMBER: Final = 40
"""Characters of a number: 64-bit floats are written in 24 at most, `model_max_length` in 31."""
_FREE_CONTAINERS = 250_000
_BYTES_PER_CONTAINER = 40  # a recipe, the densest of what is read here, has 44

# As many strings as fit a bounded piece of memory, and what stands between them. A string that does
# not end, or ends in half an escape, is not matched: the parser stops there as well.
_PIECE = re.compile(rb'[^"]*+(?:"(?:[^"\\]++|\\.)*+"[^"]*+){0,4096}+', re.DOTALL)
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_LONG_NUMBER = re.compile(rb"[0-9.eE+-]{%d}" % (MAX_NUMBER + 1))
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def _no_object(why: str) -> NoReturn:
    raise ValueError(why)


def object_of(content: bytes, stop: Callable[[str], NoReturn] = _no_object) -> dict[str, Any]:
    """Return the object that the bytes hold as UTF-8; no key stands twice in any object of it.

    Takes at most 20 times the bytes, and 64 MB, of memory. How large a file may be, its reader
    knows.

    Args:
        content: of a file, or of a field.
        stop: raises the caller's error for a reason; by default a `ValueError`.
    """
    pairs = _look_over(content, stop)
    try:
        text = content.decode("utf-8")
        found = 0

        def count(item: dict[str, Any]) -> dict[str, Any]:
            nonlocal found
            found += len(item)
            return item

        value = json.loads(text, object_hook=count)
        if found != pairs:  # a hook that sees the pairs would need as much memory again
            json.loads(text, object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        stop(f"byte {error.start} is not UTF-8")
    except ValueError as error:
        stop(f"it is no JSON: {error}")
    except RecursionError:  # of a caller that is deep in its own stack
        stop("it is nested too deeply")
    if not isinstance(value, dict):
        stop("it is no JSON object")
    return value


def _look_over(content: bytes, stop: Callable[[str], NoReturn]) -> int:
    """Return the number of pairs of a key and a value, if the content is bounded JSON at all."""
    most = _FREE_CONTAINERS + len(content) // _BYTES_PER_CONTAINER
    position = depth = containers = pairs = 0
    while (piece := _PIECE.match(content, position)) and piece.end() > position:
        position = piece.end()
        bare = _STRING.sub(b"", piece[0])
        if _LONG_NUMBER.search(bare):
            stop(f"a number has more than {MAX_NUMBER} characters")
        pairs += bare.count(b":")
        brackets = bare.translate(None, _NO_BRACKETS)
        containers += brackets.count(b"[") + brackets.count(b"{")
        if containers > most:
            stop(f"it has more than {most} lists and objects")
        for bracket in brackets:
            depth += 1 if bracket in b"[{" else -1
            if depth > MAX_DEPTH:
                stop("it is nested too deeply")
    return pairs


def _unique(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:  # readers differ in which of the two they take
            raise ValueError(f"the key {key[:80]!r} stands twice in one object")
        seen.add(key)
