"""Permutes against numpy, on bit patterns: no element is looked at as a number."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsurgeon.header import Header, pack
from convsurgeon.rearrangement import CHANNEL_LAST, Rearrangement, flatten_patches
from convsurgeon.rewrite import Output
from convsurgeon.rewrite.permute import permute as permute_block
from convsurgeon.rewrite.permute import permuted
from convsurgeon.store import Extent, Part
from tests.files import counting

UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


class Memory:
    """A reader of bytes in memory that notes what is asked of it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.largest = 0

    @property
    def place(self) -> object:
        return self

    def prefix(self) -> bytes:
        return b""

    def chunks(self, begin: int, end: int) -> Iterator[bytes]:
        yield self.data[begin:end]

    def parts(self, begin: int, end: int) -> Iterator[Part]:
        return self.chunks(begin, end)

    def read(self, begin: int, end: int) -> bytes:
        self.largest = max(self.largest, end - begin)
        return self.data[begin:end]

    def fill(self, buffer: memoryview, begin: int) -> None:
        buffer[:] = self.read(begin, begin + len(buffer))


def written(output: Output, data: bytes) -> bytes:
    """What an output over `data` becomes."""
    return b"".join(bytes(p) for p in output.parts(Memory(data)) if not isinstance(p, Extent))


def by_numpy(data: bytes, itemsize: int, move: Rearrangement) -> bytes:
    return (
        np.frombuffer(data, UNSIGNED[itemsize]).reshape(move.split).transpose(move.axes).tobytes()
    )


@st.composite
def moves(draw: st.DrawFn) -> Rearrangement:
    split = tuple(draw(st.lists(st.integers(1, 5), max_size=6)))
    axes = tuple(draw(st.permutations(range(len(split)))))
    return Rearrangement(split, split, axes, tuple(split[axis] for axis in axes))


@given(moves(), st.sampled_from(list(UNSIGNED)), st.integers(0, 2**32))
def test_random_shapes(move: Rearrangement, itemsize: int, seed: int) -> None:
    data = np.random.default_rng(seed).bytes(prod(move.split) * itemsize)
    assert permute_block(data, itemsize, move) == by_numpy(data, itemsize, move)
    if move.moves_bytes:
        pieces = permuted(Memory(b"before" + data), 6, itemsize, move)
        assert b"".join(pieces) == by_numpy(data, itemsize, move)


@pytest.mark.parametrize("rows", [1, 3, 700, 701])
@pytest.mark.parametrize("block", [1, 1000, 4 << 20])
def test_blocks_of_rows(monkeypatch: pytest.MonkeyPatch, rows: int, block: int) -> None:
    monkeypatch.setattr("convsurgeon.rewrite.permute.BLOCK", block)
    move = flatten_patches((rows, 3, 2, 2), CHANNEL_LAST)
    data = counting(rows * 12 * 2)
    reader = Memory(data)
    assert b"".join(permuted(reader, 0, 2, move)) == by_numpy(data, 2, move)
    assert reader.largest <= max(block, 2)


@pytest.mark.parametrize("axes", [(1, 0, 2), (2, 1, 0), (1, 2, 0), (0, 2, 1), (2, 0, 1)])
def test_blocks_where_the_first_axis_moves(
    monkeypatch: pytest.MonkeyPatch, axes: tuple[int, ...]
) -> None:
    move = Rearrangement((3, 4, 5), (3, 4, 5), axes, tuple((3, 4, 5)[axis] for axis in axes))
    data = counting(240)
    for block in (1, 4, 8, 60, 239, 240):
        monkeypatch.setattr("convsurgeon.rewrite.permute.BLOCK", block)
        reader = Memory(data)
        pieces = list(permuted(reader, 0, 4, move))
        assert b"".join(pieces) == by_numpy(data, 4, move)
        assert max(len(piece) for piece in pieces) <= max(block, 4)
        assert reader.largest <= max(block, 4)


@pytest.mark.parametrize("tile", [1, 3, 512])
@pytest.mark.parametrize("long", [1, 2, 128])
def test_tiles_of_any_size(monkeypatch: pytest.MonkeyPatch, tile: int, long: int) -> None:
    monkeypatch.setattr("convsurgeon.rewrite.permute._TILE", tile)
    monkeypatch.setattr("convsurgeon.rewrite.permute._LONG", long)
    for axes in permutations(range(4)):
        move = Rearrangement((2, 3, 4, 5), (2, 3, 4, 5), axes, (120,))
        data = counting(240)
        assert permute_block(data, 2, move) == by_numpy(data, 2, move)


@pytest.mark.parametrize("shape", [(512, 128, 2, 4, 4), (4, 4096, 8, 8), (65536, 2, 2, 4)])
def test_shapes_of_real_weights(shape: tuple[int, ...]) -> None:
    move = flatten_patches(shape, CHANNEL_LAST)
    data = np.random.default_rng(0).bytes(prod(shape) * 2)
    assert b"".join(permuted(Memory(data), 0, 2, move)) == by_numpy(data, 2, move)
    back = move.inverse()
    assert permute_block(by_numpy(data, 2, move), 2, back) == data


def moved(dtype: str, shape: tuple[int, ...], data: bytes) -> bytes:
    """What an output holds of a tensor whose patches become channel-last."""
    header = pack([("w", dtype, shape)])
    output = Output(b"", header, {"w": (flatten_patches(shape, CHANNEL_LAST),)})
    return written(output, data)


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_every_pattern_of_half_a_float(dtype: str) -> None:
    """All NaN payloads, quiet and signalling, denormals and negative zeros among them."""
    patterns = np.arange(65536, dtype=np.uint16)
    result = np.frombuffer(moved(dtype, (16, 64, 8, 8), patterns.tobytes()), np.uint16)
    assert not np.array_equal(result, patterns)
    assert np.array_equal(np.sort(result), patterns)
    assert np.array_equal(result, patterns.reshape(16, 64, 64).transpose(0, 2, 1).ravel())


@pytest.mark.parametrize(
    ("dtype", "patterns"),
    [
        ("F32", [0x7F800001, 0x7FC00000, 0xFFBFFFFF, 0x80000000, 0x00000001, 0x7F800000]),
        (
            "F64",
            [0x7FF0000000000001, 0xFFF8000000000000, 0x8000000000000000, 1, 0x7FF7FFFFFFFFFFFF, 2],
        ),
    ],
)
def test_signalling_nans_stay_what_they_are(dtype: str, patterns: list[int]) -> None:
    kind = UNSIGNED[4 if dtype == "F32" else 8]
    result = np.frombuffer(moved(dtype, (1, 2, 3), np.array(patterns, kind).tobytes()), kind)
    assert result.tolist() == [patterns[i] for i in (0, 3, 1, 4, 2, 5)]


@pytest.mark.parametrize("dtype", ["BOOL", "F8_E4M3", "I8"])
def test_every_byte(dtype: str) -> None:
    """Booleans other than 0 and 1 too, which torch's own permute would make 1."""
    data = bytes(range(256))
    expected = np.arange(256, dtype=np.uint8).reshape(4, 16, 4).transpose(0, 2, 1).tobytes()
    assert moved(dtype, (4, 16, 2, 2), data) == expected


def test_a_chain_of_moves_is_carried_out_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    first = flatten_patches((2, 3, 4), CHANNEL_LAST)
    second = Rearrangement((2, 12), (2, 2, 6), (2, 0, 1), (24,))
    data = counting(24 * 4)
    header: Header = pack([("a", "U8", (5,)), ("w", "F32", (2, 3, 4)), ("z", "U8", (3,))])
    whole = data + counting(8)
    output = Output(b"prefix", header, {"w": (first, second)})
    expected = by_numpy(by_numpy(data, 4, first), 4, second)
    assert written(output, whole) == b"prefix" + expected + counting(8)
    monkeypatch.setattr("convsurgeon.rewrite.output.BLOCK", 1)
    assert written(output, whole) == b"prefix" + expected + counting(8)
    by_rows = {"w": (first, Rearrangement((2, 12), (2, 3, 4), (0, 2, 1), (24,)))}
    output = Output(b"", header, by_rows)
    expected = by_numpy(by_numpy(data, 4, first), 4, by_rows["w"][1])
    reader = Memory(whole)
    assert b"".join(p for p in output.parts(reader) if isinstance(p, bytearray)) == expected
    assert reader.largest == len(data) // 2
    output = Output(b"prefix", header, by_rows)
    assert output.size == 6 + len(whole)


def test_what_is_not_moved_is_copied() -> None:
    shapes = [("a", "F32", (2,)), ("b", "F32", (1, 2, 3)), ("c", "F32", (0, 2)), ("d", "F32", (3,))]
    header = pack(shapes)
    data = counting(header.data_bytes)
    reshape = Rearrangement((1, 2, 3), (1, 2, 3), (0, 1, 2), (1, 6))
    for moves_ in ({}, {"b": ()}, {"b": (reshape,)}):
        assert written(Output(b"p", header, moves_), data) == b"p" + data
    permute_b = flatten_patches((1, 2, 3), CHANNEL_LAST)
    result = written(Output(b"", header, {"b": (permute_b,)}), data)
    assert result == data[:8] + by_numpy(data[8:32], 4, permute_b) + data[32:]
