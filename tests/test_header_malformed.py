"""Headers that break one rule each, and the code that says so."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsurgeon.errors import ConvsurgeonError, HeaderError, UnreadableError
from convsurgeon.header import header_length, parse
from convsurgeon.limits import DEFAULT_MAX_HEADER, FORMAT_MAX_HEADER
from tests.crafted_headers import FIELDS, FINE, GRAMMAR, MALFORMED, META, PAIR, WHOLE


def encoded(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def test_the_base_of_the_table_is_itself_valid() -> None:
    assert parse(FINE.encode(), 4).by_name["a"].shape == (4,)
    assert parse((META % "{}").encode(), 4).metadata == ()
    assert parse((PAIR % ("[3]", "[4,7]")).encode(), 7).data_bytes == 7
    assert len(MALFORMED) == len(GRAMMAR) + len(FIELDS) + len(WHOLE) >= 60


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize("data_bytes", [0, 4])
def test_malformed(text: str | bytes, data_bytes: int) -> None:
    with pytest.raises(HeaderError) as caught:
        parse(encoded(text), data_bytes)
    assert caught.value.code == "CS040"
    assert len(str(caught.value)) < 400 + 64 * 21


@pytest.mark.parametrize(
    ("data_bytes", "word"), [(0, "truncated"), (3, "truncated"), (5, "too long"), (2**63, "long")]
)
def test_data_of_another_length(data_bytes: int, word: str) -> None:
    with pytest.raises(UnreadableError, match=word) as caught:
        parse(FINE.encode(), data_bytes)
    assert caught.value.code == "CS036"


@pytest.mark.parametrize(
    ("first", "file_size", "limit", "code"),
    [
        (b"", 0, DEFAULT_MAX_HEADER, "CS036"),
        (b"\x02\0\0\0\0\0\0", 7, DEFAULT_MAX_HEADER, "CS036"),
        ((100).to_bytes(8, "little"), 107, DEFAULT_MAX_HEADER, "CS036"),
        ((25_000_001).to_bytes(8, "little"), 10**9, DEFAULT_MAX_HEADER, "CS041"),
        ((100_000_001).to_bytes(8, "little"), 10**9, 10**12, "CS041"),
        (b"\xff" * 8, 10**9, FORMAT_MAX_HEADER, "CS041"),
        (b"version ", 130, DEFAULT_MAX_HEADER, "CS041"),
    ],
)
def test_header_length_refused(first: bytes, file_size: int, limit: int, code: str) -> None:
    with pytest.raises(ConvsurgeonError) as caught:
        header_length(first, file_size, limit)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("length", "limit"),
    [(0, 0), (2, 2), (100, DEFAULT_MAX_HEADER), (10**8, FORMAT_MAX_HEADER), (10**8, 10**12)],
)
def test_header_length_accepted(length: int, limit: int) -> None:
    assert header_length(length.to_bytes(8, "little"), length + 8, limit) == length


def test_only_a_limit_that_can_be_raised_is_hinted_at() -> None:
    for length, hinted in ((10**8, True), (10**8 + 1, False)):
        with pytest.raises(HeaderError) as caught:
            header_length(length.to_bytes(8, "little"), 10**9)
        assert ("--max-header-bytes" in caught.value.hint) is hinted


@given(st.binary(max_size=200), st.integers(0, 300))
def test_no_bytes_give_another_exception(text: bytes, data_bytes: int) -> None:
    with pytest.raises(ConvsurgeonError):
        parse(b"{" + text + b"!", data_bytes)


@given(st.binary(max_size=16), st.integers(0, 2**64))
def test_no_length_gives_another_exception(first: bytes, file_size: int) -> None:
    with suppress(ConvsurgeonError):
        assert 0 <= header_length(first, file_size) <= file_size - 8
