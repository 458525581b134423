"""Text from a file never drives a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsurgeon.untrusted import safe

UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain.weight", "plain.weight"),
        ("größe 重み \U0001f600", "größe 重み \U0001f600"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\r\t\0", r"a\x0ab\x0d\x09\x00"),
        ("\x7f\x9b1m", r"\x7f\x9b1m"),
        ("\u202egnp.exe\u2069", r"\u202egnp.exe\u2069"),
        ("\u200b\ufeff", r"\u200b\ufeff"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\ud800", r"\ud800"),
        ("\U000e0001", r"\U000e0001"),
        ("\\x1b", "\\x1b"),
        ("", ""),
        (17, "17"),
    ],
)
def test_golden(raw: object, shown: str) -> None:
    assert safe(raw) == shown


@given(st.text(st.characters(codec=None, exclude_categories=[])))
def test_nothing_unsafe_is_left(text: str) -> None:
    shown = safe(text)
    assert not {unicodedata.category(c) for c in shown} & UNSAFE
    assert shown.encode("utf-8").decode("utf-8") == shown
    assert len(shown.splitlines()) <= 1


@given(st.text(st.characters(codec=None, exclude_categories=[])))
def test_safe_text_stays_as_it_is(text: str) -> None:
    assert safe(safe(text)) == safe(text)
    if not {unicodedata.category(c) for c in text} & UNSAFE:
        assert safe(text) == text


def test_every_unsafe_character_of_unicode_is_escaped() -> None:
    unsafe = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) in UNSAFE]
    assert len(unsafe) > 2000
    assert safe("".join(unsafe)).isascii()
