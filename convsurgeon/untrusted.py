"""Text that comes from a file is data: never terminal control, and no path to another folder."""

from __future__ import annotations

import re
import unicodedata

# Cc: C0, C1 and DEL move the cursor and set titles. Cf: bidi overrides and zero-width characters
# make one name look like another. Cs: lone surrogates cannot be encoded. Zl, Zp: line breaks.
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


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
    return "".join(_escaped(c) if unicodedata.category(c) in _UNSAFE_CATEGORIES else c for c in raw)


def is_file_name(name: str) -> bool:
    """Tell whether a name from a file may become a path: no folder, no control character."""
    # Half a surrogate pair is no name on any disk.
    return name not in ("", ".", "..") and not re.search(r"[/\\\x00-\x1f\x7f\ud800-\udfff]", name)


def _escaped(character: str) -> str:
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
