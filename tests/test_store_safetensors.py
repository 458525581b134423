"""Reading safetensors files: limits, truncation, and sources that change under the reader."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import convsurgeon as cs
from convsurgeon.errors import ConvsurgeonError, HeaderError, UnreadableError, UsageError
from convsurgeon.store import CHUNK, SafetensorsFile, read_safetensors, whole_file
from tests.crafted_headers import FINE, META
from tests.files import checkpoint, counting, framed

SMALL = framed(META % '{"format":"pt"}', b"\x01\x02\x03\x04")


def old(path: Path) -> Path:
    """Give a file a time long ago, so that every later write shows in it."""
    os.utime(path, (1, 1))
    return path


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    path.write_bytes(SMALL)
    return old(path)


def test_a_valid_file(small: Path) -> None:
    file = read_safetensors(small)
    assert (file.path, file.size, file.dropped) == (small, len(SMALL), ())
    assert file.header.metadata_map == {"format": "pt"}
    with file.reader() as reader:
        assert reader.prefix() == SMALL[:-4]
        assert reader.read(0, 4) == b"\x01\x02\x03\x04"
        assert reader.read(1, 3) == b"\x02\x03"
        assert list(reader.chunks(2, 2)) == []


def test_every_prefix_is_refused(small: Path) -> None:
    for size in range(len(SMALL)):
        small.write_bytes(SMALL[:size])
        with pytest.raises(UnreadableError) as caught:
            read_safetensors(small)
        assert caught.value.code == ("CS036" if size else "CS031"), size
        assert caught.value.where == str(small)


def test_bytes_behind_the_data_are_refused(small: Path) -> None:
    small.write_bytes(SMALL + b"\0")
    with pytest.raises(UnreadableError) as caught:
        read_safetensors(small)
    assert caught.value.code == "CS036"
    assert "too long" in caught.value.message


@pytest.mark.parametrize(("more", "accepted"), [(0, True), (-1, False), (1000, True)])
def test_the_limit_is_inclusive(small: Path, more: int, accepted: bool) -> None:
    limit = len(SMALL) - 12 + more
    if accepted:
        assert read_safetensors(small, limit).header_length == len(SMALL) - 12
        assert cs.scan(small, max_header_bytes=limit).files[0].tensors == 1
        return
    for read in (
        lambda: read_safetensors(small, limit),
        lambda: cs.scan(small, max_header_bytes=limit),
    ):
        with pytest.raises(HeaderError) as caught:
            read()
        assert caught.value.code == "CS041"
        assert caught.value.hint == "--max-header-bytes raises the limit"


def test_headers_above_the_default_are_an_option_away(tmp_path: Path) -> None:
    path = tmp_path / "wide.safetensors"
    path.write_bytes(framed(FINE + " " * (25_000_001 - len(FINE)), bytes(4)))
    with pytest.raises(HeaderError, match="25000001") as caught:
        read_safetensors(path)
    assert caught.value.code == "CS041"
    assert read_safetensors(path, 25_000_001).header_length == 25_000_001


def test_no_option_goes_beyond_the_format(small: Path) -> None:
    small.write_bytes(framed(FINE, bytes(4), length=100_000_001))
    with pytest.raises(HeaderError) as caught:
        read_safetensors(small, 200_000_000)
    assert caught.value.code == "CS041"
    assert "fetch" in caught.value.hint
    for limit in (0, -1, 100_000_001):
        with pytest.raises(UsageError) as usage:
            cs.scan(small, max_header_bytes=limit)
        assert usage.value.code == "CS090"


def test_a_hostile_length_allocates_nothing(small: Path) -> None:
    small.write_bytes((2**63).to_bytes(8, "little") + b"{}")
    with pytest.raises(HeaderError) as caught:
        read_safetensors(small)
    assert caught.value.code == "CS041"


@given(st.data())
def test_chunks_are_the_range(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    size = 2 * CHUNK + 12_345
    path = tmp_path_factory.getbasetemp() / "large.safetensors"
    content = counting(size - size % 4)
    if not path.exists():
        checkpoint(path, {"a": (len(content) // 4,)})
    begin = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(begin, len(content)))
    with read_safetensors(path).reader() as reader:
        pieces = list(reader.chunks(begin, end))
    assert b"".join(pieces) == content[begin:end]
    assert all(0 < len(piece) <= CHUNK for piece in pieces)


def append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def rewrite(path: Path) -> None:
    path.write_bytes(path.read_bytes())


def shrink(path: Path) -> None:
    os.truncate(path, len(SMALL) - 1)


def replace(path: Path) -> None:
    other = path.with_suffix(".other")
    other.write_bytes(path.read_bytes())
    old(other).replace(path)


CHANGES = [append, rewrite, shrink]


def changed(error: ConvsurgeonError, path: Path) -> None:
    assert type(error) is UnreadableError
    assert (error.code, error.where) == ("CS038", str(path))
    assert "run again" in error.hint


@pytest.mark.parametrize("change", CHANGES)
def test_changed_while_open(small: Path, change: Callable[[Path], None]) -> None:
    file = read_safetensors(small)
    with pytest.raises(UnreadableError) as caught, file.reader() as reader:
        assert reader.read(0, 3) == b"\x01\x02\x03"
        change(small)
    changed(caught.value, small)


@pytest.mark.parametrize("change", [*CHANGES, replace])
def test_changed_before_it_was_opened(small: Path, change: Callable[[Path], None]) -> None:
    file = read_safetensors(small)
    change(small)
    with ExitStack() as stack, pytest.raises(UnreadableError) as caught:
        stack.enter_context(file.reader())
    changed(caught.value, small)


def test_a_file_that_shrinks_is_an_error_at_once(small: Path) -> None:
    file: SafetensorsFile = read_safetensors(small)
    with pytest.raises(UnreadableError) as caught, file.reader() as reader:
        shrink(small)
        reader.read(0, 4)
    changed(caught.value, small)
    assert "shorter" in caught.value.message


def test_a_replaced_file_is_read_to_its_end(small: Path) -> None:
    """The reader keeps the file that it opened: a rename over it changes nothing."""
    with read_safetensors(small).reader() as reader:
        replace(small)
        assert reader.read(0, 4) == b"\x01\x02\x03\x04"


def test_an_error_inside_is_not_hidden(small: Path) -> None:
    with pytest.raises(ZeroDivisionError), read_safetensors(small).reader():
        append(small)
        raise ZeroDivisionError


@pytest.mark.parametrize("change", CHANGES)
def test_side_files_are_watched_too(small: Path, change: Callable[[Path], None]) -> None:
    small.write_bytes(counting(CHUNK + 5))
    old(small)
    parts = whole_file(small)
    assert next(parts)[1:] == (0, CHUNK + 5, small)
    change(small)
    with pytest.raises(UnreadableError) as caught:
        list(parts)
    changed(caught.value, small)
