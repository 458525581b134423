"""Text that comes from a file is data: never terminal control, and no path to another folder."""

from __future__ import annotations

import re
import unicodedata

# Cc: C0, C1 and DEL move the cursor and set titles. Cf: bidi overrides and zero-width characters
# make one name look like another. Cs: lone surrogates cannot be encoded. Zl, Zp: line breaks.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})

_QUOTED = 240
"""Characters of a name in a message: a path on most systems has at most 255 in one component."""

_NAME_BYTES = 255
"""Of a name on the usual file systems."""


def safe(text: object) -> str:
    r"""Return `text` with every character that could drive a terminal written as an escape.

    >>> safe("a\x1b[2Jb")
    'a\\x1b[2Jb'
    >>> safe("plain.weight")
    'plain.weight'
    """
    raw = str(text)
    if raw.isascii() and raw.isprintable():
        return raw
    return raw.translate(_ESCAPES)


def quoted(text: object) -> str:
    r"""Return `text` as a message quotes it: safe, and its middle left out where it is long.

    A name can have as many characters as a header has bytes.

    >>> quoted("a" * 300)[:4]
    "'aaa"
    """
    raw = str(text)
    short = raw if len(raw) <= _QUOTED else f"{raw[: _QUOTED - 60]} … {raw[-60:]}"
    return repr(safe(short))


def is_file_name(name: str) -> bool:
    """Tell whether a name from a file may become a path: no folder, no control character."""
    # Half a surrogate pair is no name on any disk; nor is anything longer.
    if name in ("", ".", "..") or re.search(r"[/\\\x00-\x1f\x7f\ud800-\udfff]", name):
        return False
    return len(name.encode("utf-8")) <= _NAME_BYTES


class _Escapes(dict[int, str]):
    """What `str.translate` asks for each character; a join of as many texts takes 20 times as much.

    It remembers what it was asked about, of the first 65,536 characters: a few megabytes.
    """

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if unicodedata.category(character) in _UNSAFE_CATEGORIES:
            form = "\\x{:02x}" if code <= 0xFF else "\\u{:04x}" if code <= 0xFFFF else "\\U{:08x}"
            character = form.format(code)
        return self.setdefault(code, character) if code <= 0xFFFF else character


_ESCAPES = _Escapes()
