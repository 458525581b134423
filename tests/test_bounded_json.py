"""The reader of other people's JSON: what it refuses before anything is built."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsurgeon.bounded_json import MAX_DEPTH, MAX_NUMBER, object_of
from tests.strategies import JSON, mutated_text
from tests.test_header_hostile import many, peak_and_seconds

LISTS = 250_000
"""Lists and objects that any text may have, however short it is."""


def refused(content: bytes) -> str:
    with pytest.raises(ValueError) as caught:
        object_of(content)
    assert len(str(caught.value)) < 250
    return str(caught.value)


def nested(depth: int) -> bytes:
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "no JSON"),
    "a list": (b"[]", "no JSON object"),
    "not UTF-8": (b'{"a":"\xff"}', "byte 6 is not UTF-8"),
    "overlong UTF-8": (b'{"a":"\xc0\xaf"}', "not UTF-8"),
    "surrogate in UTF-8": (b'{"a":"\xed\xa0\x80"}', "not UTF-8"),
    "BOM": (b"\xef\xbb\xbf{}", "no JSON"),
    "UTF-16": ("{}".encode("utf-16"), "not UTF-8"),
    "UTF-16 without BOM": ("{}".encode("utf-16-le"), "no JSON"),
    "too deep": (nested(MAX_DEPTH + 1), "nested too deeply"),
    "too deep without an end": (b"[" * 100_000, "nested too deeply"),
    "too deep behind strings": (b'{"a":["]","\\"]","\\\\",' + b"[" * MAX_DEPTH, "nested too deeply"),
    "a long integer": (b'{"a":%s}' % (b"9" * (MAX_NUMBER + 1)), "number"),
    "a long negative one": (b'{"a":-%s}' % (b"9" * MAX_NUMBER), "number"),
    "a long fraction": (b'{"a":0.%s}' % (b"3" * MAX_NUMBER), "number"),
    "a long exponent": (b'{"a":1e%s}' % (b"9" * MAX_NUMBER), "number"),
    "too many lists": (b'{"a":[%s[]]}' % (b"[]," * (2 * LISTS)), "lists and objects"),
    "too many objects": (b'{"a":[%s{}]}' % (b'{"":0},' * (2 * LISTS)), "lists and objects"),
    "a key twice": (b'{"a":1,"b":2,"a":3}', "'a' stands twice"),
    "a key twice through an escape": (b'{"a":1,"\\u0061":3}', "'a' stands twice"),
    "a key twice below": (b'{"a":[{"b":1,"b":1}]}', "'b' stands twice"),
    "a long key twice": (b'{"%s":1,"%s":3}' % ((b"k" * 10_000,) * 2), "stands twice"),
    "an open string": (b'{"a', "no JSON"),
    "half an escape": (b'{"a\\', "no JSON"),
    "two documents": (b"{}{}", "no JSON"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(content: bytes, why: str) -> None:
    assert why in refused(content)


def test_the_caller_chooses_the_error() -> None:
    def stop(why: str) -> Any:
        raise KeyError(why)

    with pytest.raises(KeyError, match="nested"):
        object_of(nested(MAX_DEPTH + 1), stop)


@pytest.mark.parametrize(
    "content",
    [
        b"{}",
        b' \n{"a": [1, -2.5e-300, true, null, "x"]} ',
        nested(MAX_DEPTH),
        b'{"a":%s}' % (b"9" * MAX_NUMBER),
        b'{"a":"%s"}' % (b"9" * 10_000),
        b'{"a":"%s"}' % (b"[{" * 10_000),
        b'{"a":"%s"}' % (b"\\\\" * 5_001),
        b'{"a":"\\"[[[","\\"":"\\\\","b":{}}',
        b'{"a":[%s[]]}' % (b"[]," * (LISTS - 3)),
        json.dumps({str(n): "x" * 60 for n in range(20_000)}).encode(),
    ],
    ids=range(10),
)
def test_accepted(content: bytes) -> None:
    assert object_of(content) == json.loads(content)


@given(st.dictionaries(st.text(max_size=4), JSON, max_size=4), st.booleans())
def test_what_is_written_is_read(document: dict[str, Any], ascii_only: bool) -> None:
    try:
        content = json.dumps(document, ensure_ascii=ascii_only).encode()
    except UnicodeEncodeError:
        return
    assert repr(object_of(content)) == repr(json.loads(content))  # NaN is not itself


@given(st.data(), st.dictionaries(st.text(max_size=4), JSON, max_size=4))
def test_whatever_is_accepted_is_what_the_parser_reads(
    data: st.DataObject, document: dict[str, Any]
) -> None:
    text = data.draw(mutated_text(json.dumps(document).encode(), ()))
    try:
        found = object_of(text)
    except ValueError:
        return
    assert repr(found) == repr(json.loads(text))


BOMBS = {
    "keys": many("{", '"NAME":0', "}"),
    "keys and values": many("{", '"NAME":"NAME"', "}"),
    "wide keys and values": many("{", '"\U0001f600NAME":"\U0001f600NAME"', "}"),
    "wide strings": many('{"a":["\U0001f600"', '"NAME"', "]}"),
    "numbers": many('{"a":[0', "1000", "]}"),
    "objects": many('{"a":[0', '{"NAME":0}', "]}"),
    "lists": many('{"a":[0', "[]", "]}"),
    "lists among strings": many('{"a":[0', '["' + "x" * 40 + 'NAME"]', "]}"),
    "one key again and again": many("{", '"a":0', "}"),
    "quotes": many("", '""', ""),
}
READ = "from convsurgeon.bounded_json import object_of as parse"


@pytest.mark.long
@pytest.mark.parametrize("bomb", BOMBS)
def test_memory_at_the_default_limit(bomb: str, tmp_path: Path) -> None:
    text = BOMBS[bomb](25_000_000)
    peak, _ = peak_and_seconds(text, tmp_path, READ)
    assert peak <= 20 * len(text) + 64_000_000


@pytest.mark.parametrize("bomb", BOMBS)
def test_memory_and_time_of_bombs(bomb: str, tmp_path: Path) -> None:
    text = BOMBS[bomb](3_000_000)
    peak, seconds = peak_and_seconds(text, tmp_path, READ)
    assert peak <= 20 * len(text) + 64_000_000
    assert seconds < 10  # no timed test: anything worse than linear takes minutes
