"""Tensors of PyTorch files are copied by the kernel where the file holds them as they are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import convsurgeon as cs
from convsurgeon.errors import NotEquivalentError
from convsurgeon.store import CHUNK, Extent, mapped, pickle_reader, read_pickle
from convsurgeon.store.mapped import Mapping, mappings_of, place_of

torch = pytest.importorskip("torch")

SIDE = 1024  # of a square of 4 MiB
STATED: dict[str, Any] = {"geometry": ["p=s16"], "verify": "bits"}

needs_maps = pytest.mark.skipif(
    not Path("/proc/self/maps").exists(), reason="the system does not tell what is mapped"
)


def values(*shape: int) -> Any:
    return torch.arange(int(torch.tensor(shape).prod()), dtype=torch.float32).reshape(shape)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    square = values(SIDE, SIDE)
    content = {
        "a.whole": square,
        "b.rows": values(2 * SIDE, SIDE)[SIDE // 2 : SIDE + SIDE // 2],
        "c.turned": values(SIDE, SIDE).t(),
        "d.small": values(5),
        "p.weight": values(8, 3, 16, 16),
    }
    torch.save(content, tmp_path / "m.pt")
    return tmp_path / "m.pt"


def in_the_kernel(path: Path) -> dict[str, bool]:
    """By tensor, whether the kernel copies it; and what it would copy is what torch shows."""
    file, found = read_pickle(path), {}
    with file.reader() as reader:
        for info in file.header.tensors:
            (part, *more) = reader.parts(info.begin, info.end)
            found[info.name] = isinstance(part, Extent)
            if isinstance(part, Extent):
                shown = os.pread(part.fd, part.end - part.begin, part.begin)
                assert (shown, more) == (reader.read(info.begin, info.end), [])
                assert part.path == path
    return found


@needs_maps
def test_what_lies_in_the_file_in_one_piece_is_an_extent(path: Path) -> None:
    expected = ["a.whole", "b.rows"]
    assert [name for name, yes in in_the_kernel(path).items() if yes] == expected


def test_parts_of_any_range_are_its_bytes(path: Path) -> None:
    file = read_pickle(path)
    with file.reader() as reader:
        size = file.header.data_bytes
        for begin, end in ((0, size), (5, size - 3), (CHUNK, 3 * CHUNK + 7), (size, size)):
            found = b""
            for part in reader.parts(begin, end):
                if isinstance(part, Extent):
                    part = os.pread(part.fd, part.end - part.begin, part.begin)  # noqa: PLW2901
                found += part
            assert found == reader.read(begin, end)


@needs_maps
def test_a_swap_copies_them_in_the_kernel(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, copied = os.copy_file_range, []

    def watched(*args: int) -> int:
        copied.append(real(*args))
        return copied[-1]

    monkeypatch.setattr(os, "copy_file_range", watched)
    cs.swap(path, path.with_name("out.safetensors"), **STATED)
    assert sum(copied) == 2 * SIDE * SIDE * 4


def test_the_same_file_where_the_system_tells_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = path.with_name("one.safetensors"), path.with_name("other.safetensors")
    cs.swap(path, one, **STATED)
    monkeypatch.setattr(mapped, "_MAPS", path.with_name("nothing"))
    assert not any(in_the_kernel(path).values())
    cs.swap(path, other, **STATED)
    assert one.read_bytes() == other.read_bytes()


@needs_maps
def test_a_wrong_place_is_never_published(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        pickle_reader, "place_of", lambda *args: None if (at := place_of(*args)) is None else at + 4
    )
    with pytest.raises(NotEquivalentError):
        cs.swap(path, path.with_name("out.safetensors"), **STATED)
    assert not path.with_name("out.safetensors").exists()


def test_a_tensor_out_of_order_is_put_in_order_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, made = pickle_reader._bytes_of, []

    def watched(tensor: Any) -> memoryview:
        made.append(tuple(tensor.stride()))
        return real(tensor)

    monkeypatch.setattr(pickle_reader, "_bytes_of", watched)
    cs.swap(path, path.with_name("out.safetensors"), **STATED)
    assert made.count((1, SIDE)) == 2  # once to write it, once to compare it


def test_places() -> None:
    found = (Mapping(100, 200, 4096), Mapping(300, 350, 0))
    assert place_of(100, 100, found) == 4096
    assert place_of(150, 50, found) == 4146
    assert place_of(349, 1, found) == 49
    for address, count in ((99, 1), (150, 51), (200, 1), (349, 2), (250, 10)):
        assert place_of(address, count, found) is None
    assert place_of(1, 1, ()) is None


@needs_maps
def test_another_file_has_no_mappings(path: Path) -> None:
    other = path.with_name("other")
    other.touch()
    file = read_pickle(path)
    with file.reader(), other.open("rb") as stranger, path.open("rb") as itself:
        assert mappings_of(stranger.fileno()) == ()
        assert mappings_of(itself.fileno())
