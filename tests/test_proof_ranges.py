"""Two ranges are equal only if each byte is, whoever compares it."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsurgeon.errors import UnreadableError
from convsurgeon.proof import ranges

SHARE = 40


@dataclass
class Memory:
    """A reader of bytes in memory; whatever lies behind its end is an error."""

    data: bytes
    threads: set[int] = field(default_factory=set)

    @property
    def place(self) -> object:
        return id(self)

    def fill(self, buffer: memoryview, begin: int) -> None:
        self.threads.add(threading.get_ident())
        piece = self.data[begin : begin + len(buffer)]
        if len(piece) < len(buffer):
            raise UnreadableError("CS038", "became shorter")
        buffer[:] = piece


@pytest.fixture(params=["alone", "with a helper", "no room for a thread"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(ranges, "SHARE", SHARE)
    monkeypatch.setattr(ranges, "COMPARED", 16)
    monkeypatch.setattr(ranges, "ALONE", 0 if request.param != "alone" else 1 << 60)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    if request.param == "no room for a thread":
        monkeypatch.setattr(threading.Thread, "start", refuse)
    return str(request.param)


def refuse(_: object) -> None:
    raise RuntimeError("can't start new thread")


def compared(old: bytes, new: bytes, begin: int, end: int, shift: int = 0) -> tuple[bool, int]:
    told: list[int] = []
    before: Any = Memory(old)
    after: Any = Memory(new)
    return ranges.equal_bytes(before, after, begin, end, shift, told.append), sum(told)


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 39, 40, 41, 80, 81, 119, 120, 121, 400])
def test_every_byte_counts(way: str, size: int) -> None:
    data = bytes(range(1, 200)) * 3
    assert compared(data, b"???" + data, 7, 7 + size, shift=3) == (True, size)
    for place in range(size):
        other = bytearray(data)
        other[7 + place] ^= 255
        assert compared(data, b"???" + bytes(other), 7, 7 + size, shift=3)[0] is False, place


def test_what_lies_outside_does_not_count(way: str) -> None:
    assert compared(b"a" + b"x" * 300 + b"b", b"c" + b"x" * 300 + b"d", 1, 301) == (True, 300)


@given(data=st.binary(max_size=300), other=st.binary(max_size=300))
def test_it_is_equality(data: bytes, other: bytes) -> None:
    size = min(len(data), len(other))
    assert compared(data, other, 0, size)[0] == (data[:size] == other[:size])


def test_an_error_of_either_thread_is_raised(way: str) -> None:
    for missing in (1, SHARE + 1, 2 * SHARE + 1):
        with pytest.raises(UnreadableError):
            compared(b"x" * 300, b"x" * (300 - missing), 0, 300)


def test_two_threads_compare_and_none_is_left(way: str) -> None:
    before: Any = Memory(b"x" * 300)
    after: Any = Memory(b"x" * 300)
    others = threading.active_count()
    assert ranges.equal_bytes(before, after, 0, 300, 0, lambda _: None)
    assert len(before.threads) == (2 if way == "with a helper" else 1)
    assert threading.active_count() == others


def test_one_file_under_two_headers_is_not_read() -> None:
    same: Any = Memory(b"")
    assert ranges.equal_bytes(same, same, 0, 300, 0, lambda _: None)
