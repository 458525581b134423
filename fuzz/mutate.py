"""Edits of JSON texts and their neighbours, by whole tokens: blind byte flips rarely stay valid."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

_T = TypeVar("_T")

_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[0-9]++|[ \t\r\n]++|[\x00-\xff]', re.DOTALL)

WORDS: Final[tuple[bytes, ...]] = (
    *(c.encode() for c in '{}[],:"\\ \t\n\r\0-+.eE0149'),
    *(b"null", b"true", b"false", b"NaN", b"Infinity", b"-0", b"00", b"1e3", b"4.0", b"\x1b[2J"),
    *(b"18446744073709551615", b"18446744073709551616", b"9223372036854775808", b"4294967296"),
    *(b'"dtype"', b'"shape"', b'"data_offsets"', b'"__metadata__"', b'"a"', b'"b"', b'"\\u0061"'),
    *(b'"U8"', b'"F32"', b'"F4"', b'"F6_E2M3"', b'"BOOL"', b'"C128"', b'{"F32":null}', b'"x":1,'),
    *(b"\\u0000", b"\\ud800", b"\\udc00", b"\\ud83d\\ude00", b"\xef\xbb\xbf", b"\xc0\xaf", b"\xff"),
    *(b"[0,0]", b"[0,4]", b"[4,8]", b"[0]", b"[]", b"{}", b"[[", b'{"a":', b",,", b"}{"),
    b"\xe2\x80\xae",
    *(b"..", b"/", b"model.safetensors", b"weight_map", b"metadata", b"total_size", b"convsurgeon"),
)  # fmt: skip

_IN_STRINGS: Final = (
    b"\\n",
    b"\xc3\xa9",
    b"/",
    b"..",
    b"\\\\",
    b"\\u0000",
    b"\\ud800",
    b"\n",
    b"\x1b",
)


def edited(text: bytes, random: Callable[[], float], others: Sequence[bytes] = ()) -> bytes:
    """Return the text after one to four edits.

    Args:
        text: any bytes.
        random: decides everything; see `random.random`.
        others: texts that a piece may be taken from.
    """
    tokens: list[bytes] = _TOKEN.findall(text)
    for _ in range(_one_of((1, 1, 1, 2, 2, 3, 4), random)):
        _edit(tokens, random, others)
    return b"".join(tokens)


def _edit(tokens: list[bytes], random: Callable[[], float], others: Sequence[bytes]) -> None:
    at = int(random() * (len(tokens) + 1))
    kind = int(random() * 8)
    if at == len(tokens) or kind == 0:
        tokens.insert(at, _one_of(WORDS, random))
    elif kind == 1:
        tokens[at] = _one_of(WORDS, random)
    elif kind == 2:
        del tokens[at : at + _one_of((1, 1, 2, 3, 8), random)]
    elif kind == 3:
        tokens[at] = _nearby(tokens[at], random)
    elif kind == 4:  # twice, here or elsewhere
        piece = tokens[at : at + _one_of((1, 2, 4, 16, 32), random)]
        place = int(random() * (len(tokens) + 1))
        tokens[place:place] = piece
    elif kind == 5:
        other = int(random() * len(tokens))
        tokens[at], tokens[other] = tokens[other], tokens[at]
    elif kind == 6:
        same = [token for token in tokens if token[:1] == tokens[at][:1]]
        tokens[at] = _one_of(same, random)
    elif others:
        piece = _TOKEN.findall(_one_of(others, random))
        start = int(random() * (len(piece) + 1))
        tokens[at:at] = piece[start : start + _one_of((1, 4, 16, 64), random)]


def _nearby(token: bytes, random: Callable[[], float]) -> bytes:
    if token.isdigit():
        value = int(token[:30])
        numbers = (value + 1, value - 1, value * 2, value // 2, 0, 1)
        return str(_one_of(numbers, random)).encode()
    if token[:1] == b'"' and len(token) > 2:
        at = 1 + int(random() * (len(token) - 2))
        character = token[at : at + 1]
        others = (b"\\u00%02x" % character[0], b"", character * 2, *_IN_STRINGS)
        return token[:at] + _one_of(others, random) + token[at + 1 :]
    return token + token if random() < 0.5 else bytes([token[0] ^ 1 << int(random() * 8)])


def _one_of(choices: Sequence[_T], random: Callable[[], float]) -> _T:
    return choices[int(random() * len(choices))]  # Random.choice takes twice as long
