"""The bytes that stand in front of the data: golden ones, and those of the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from convsurgeon.errors import HeaderError
from convsurgeon.header import Header, TensorInfo, lay_out, pack, padded_length, parse
from convsurgeon.header.layout import text_length
from tests.strategies import headers, tensors

GOLDEN = (
    b"\xa8\x00\x00\x00\x00\x00\x00\x00"
    b'{"__metadata__":{"format":"pt"},'
    b'"proj.weight":{"dtype":"F32","shape":[2,1,2,2],"data_offsets":[0,32]},'
    b'"gr\xc3\xb6\xc3\x9fe\\n":{"dtype":"BF16","shape":[],"data_offsets":[32,34]}}'
    b"   "
)
VALUE = Header(
    (
        TensorInfo("proj.weight", "F32", (2, 1, 2, 2), 0, 32),
        TensorInfo("größe\n", "BF16", (), 32, 34),
    ),
    (("format", "pt"),),
)


def text_of(laid_out: bytes) -> bytes:
    length = int.from_bytes(laid_out[:8], "little")
    assert length == len(laid_out) - 8
    return laid_out[8:]


def test_golden_bytes() -> None:
    assert lay_out(VALUE) == GOLDEN


def test_golden_bytes_are_read_back() -> None:
    assert parse(GOLDEN[8:], 34) == VALUE


@pytest.mark.parametrize(
    ("header", "text"),
    [
        (Header(()), b"{}      "),
        (Header((), ()), b'{"__metadata__":{}}     '),
        (Header((), (("b", "1"), ("a", ""))), b'{"__metadata__":{"b":"1","a":""}}       '),
        (Header((), (("\x1f\x7f\u2028", '\\"'),)), '{"__metadata__":{"\\u001f\x7f\u2028":"\\\\\\""}}'.encode() + b" " * 2),
    ],
)  # fmt: skip
def test_small_golden_texts(header: Header, text: bytes) -> None:
    assert text_of(lay_out(header)) == text
    assert text_length(header) == len(text.rstrip(b" "))


@pytest.mark.parametrize("length", [165, 166, 4096])
def test_an_exact_length_is_met(length: int) -> None:
    text = text_of(lay_out(VALUE, length))
    assert len(text) == length
    assert text.rstrip(b" ") == GOLDEN[8:].rstrip(b" ")


def test_a_length_too_short_is_an_error() -> None:
    assert text_length(VALUE) == 165
    with pytest.raises(ValueError, match="needs 165 bytes, 164"):
        lay_out(VALUE, 164)


@pytest.mark.parametrize(
    ("needed", "like", "expected"),
    [
        (1, None, 8),
        (8, None, 8),
        (9, None, 16),
        (100, 4096, 4096),
        (100, 104, 104),
        (104, 104, 104),
        (105, 104, 4200),
        (5000, 104, 8296),
        (3, 10_000_001, 10_000_001 % 4096),
    ],
)
def test_padded_length(needed: int, like: int | None, expected: int) -> None:
    assert padded_length(needed, like) == expected


@given(st.integers(1, 10**8), st.integers(1, 10**8))
def test_padded_length_is_the_least_congruent_one(needed: int, like: int) -> None:
    length = padded_length(needed, like)
    assert needed <= length < needed + 4096
    assert (length - like) % 4096 == 0


@given(headers())
def test_round_trip(header: Header) -> None:
    laid_out = lay_out(header)
    assert len(laid_out) % 8 == 0
    assert parse(text_of(laid_out), header.data_bytes) == header


ARRAYS: dict[str, np.ndarray[Any, Any]] = {
    "z.weight": np.zeros((2, 3), np.float32),
    "a.weight": np.zeros((4,), np.float32),
    "größe\t\x7f\x01": np.zeros((), np.int64),
    "\U0001f600": np.zeros((0, 7), np.float16),
    "mask": np.ones((3,), np.bool_),
}


@pytest.mark.parametrize(
    "metadata",
    [None, {}, {"format": "pt"}, {"k\n": 'v"\\\x1b/', "é": "\U0001f600", "a": "", "b": "x" * 9}],
)
def test_what_save_file_writes_is_reproduced(
    tmp_path: Path, metadata: dict[str, str] | None
) -> None:
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(ARRAYS, path, metadata)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = parse(content[8 : 8 + length], len(content) - 8 - length)
    assert header.by_name.keys() == ARRAYS.keys()
    assert lay_out(header, length) == content[: 8 + length]
    assert lay_out(header) == content[: 8 + length]


NUMPY = {
    "F64": "f8", "F32": "f4", "F16": "f2", "C64": "c8", "BOOL": "?", "I8": "i1", "I16": "i2",
    "I32": "i4", "I64": "i8", "U8": "u1", "U16": "u2", "U32": "u4", "U64": "u8",
}  # fmt: skip


@given(tensors())
def test_pack_orders_as_the_reference_does(
    entries: list[tuple[str, str, tuple[int, ...]]],
) -> None:
    dtypes = list(NUMPY)
    known = [(name, dtypes[len(d + name) % len(dtypes)], shape) for name, d, shape in entries]
    arrays = {name: np.zeros(shape, NUMPY[dtype]) for name, dtype, shape in known}
    written = safetensors.numpy.save(arrays)
    packed = pack(known)
    assert written.startswith(lay_out(packed))
    assert len(written) == len(lay_out(packed)) + packed.data_bytes


def test_pack_golden() -> None:
    packed = pack(
        [("b", "F16", (3,)), ("é", "F32", (1,)), ("a", "F32", (2, 2)), ("q", "F4", (2,))],
        {"z": "1", "a": "2"},
    )
    places = [(t.name, t.begin, t.end) for t in packed.tensors]
    assert places == [("a", 0, 16), ("é", 16, 20), ("b", 20, 26), ("q", 26, 27)]
    assert packed.metadata == (("a", "2"), ("z", "1"))
    assert packed.metadata_map == {"a": "2", "z": "1"}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (([TensorInfo("\ud800", "U8", (1,), 0, 1)], None), r"\\ud800' is not valid Unicode"),
        (([], (("a", "\udfff"),)), "metadata 'a' is not valid Unicode"),
        (([], (("a", "1"), ("a", "1"))), "one key"),
        (([TensorInfo("__metadata__", "U8", (1,), 0, 1)], None), "reserves"),
        (([TensorInfo("a", "U8", (-1, -1), 0, 1)], None), "out of range"),
        (([TensorInfo("a", "U8", (1,), 1, 2)], None), "hole"),
        (([TensorInfo("a", "U8", (2,), 0, 2), TensorInfo("b", "U8", (1,), 1, 2)], None), "overlap"),
        (([TensorInfo("\x1b[2J", "X", (1,), 0, 1)], None), r"\\x1b\[2J' has the unknown dtype"),
    ],
)
def test_an_invalid_header_cannot_be_built(
    header: tuple[list[TensorInfo], tuple[tuple[str, str], ...] | None], message: str
) -> None:
    with pytest.raises(HeaderError, match=message) as caught:
        Header(tuple(header[0]), header[1])
    assert caught.value.code == "CS040"
