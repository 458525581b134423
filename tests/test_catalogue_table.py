"""The packaged table: packing, reading, and whether every record in it makes sense."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convsurgeon as cs
from convsurgeon.codes import codes
from convsurgeon.geometry import Geometry
from convsurgeon.sources.catalogue import packaged, table
from convsurgeon.sources.catalogue.outcome import meaning
from convsurgeon.sources.catalogue.record import Record
from tests.files import checkpoint
from tests.strategies import JSON

FILE = Path(table.__file__).with_name("catalogue.bin")
BUDGET = 2_000_000
KEYS = st.text(max_size=12)


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Put a table in the packaged one's place."""
    cached = (table.entry, table._content, table._bucket, packaged._record)

    def put(content: bytes) -> None:
        path = tmp_path / "catalogue.bin"
        path.write_bytes(content)
        monkeypatch.setattr(table, "_FILE", path)
        for one in cached:
            one.cache_clear()

    yield put
    for one in cached:
        one.cache_clear()


# --- packing


def unpacked(content: bytes) -> dict[str, Any]:
    """The entries of a table, by a reader of its own."""
    found: dict[str, Any] = {}
    assert content.startswith(b"CSCAT001")
    for number in range(256):
        offset, length = struct.unpack_from("<II", content, 8 + 8 * number)
        bucket = json.loads(zlib.decompress(content[offset : offset + length]))
        assert not found.keys() & bucket.keys()
        found |= bucket
    return found


JSON_ALIKE = JSON.filter(lambda value: "NaN" not in json.dumps(value))


@settings(max_examples=30)  # each is 256 buckets
@given(st.dictionaries(KEYS, JSON_ALIKE, max_size=8))
def test_what_is_packed_is_read(entries: dict[str, Any]) -> None:
    assert unpacked(table.pack(entries)) == json.loads(json.dumps(entries))


@settings(max_examples=30)  # each is 256 buckets
@given(st.dictionaries(KEYS, st.integers(), max_size=20))
def test_equal_entries_give_equal_bytes(entries: dict[str, int]) -> None:
    backwards = dict(reversed(entries.items()))
    assert table.pack(backwards) == table.pack(entries)
    assert table.pack({**entries, "another key": 1}) != table.pack(entries)


def test_each_key_is_found_and_no_other(load: Any) -> None:
    entries = {f"key {i}": [i] for i in range(4000)}
    load(table.pack(entries))
    assert set(map(table.bucket_of, entries)) == set(range(table.BUCKETS))
    assert {key: table.entry(key) for key in entries} == entries
    assert [table.entry(key) for key in ("", "key", "key 4000", "key 1 ", "\ud800")] == [None] * 5


def test_an_empty_table_holds_nothing(load: Any) -> None:
    load(table.pack({}))
    assert table.entry("body:0") is None
    assert packaged.PACKAGED.record("0") is None


@pytest.mark.parametrize("magic", [b"CSCAT002", b"CSCAT00", b""])
def test_another_version_is_not_read(magic: bytes, load: Any) -> None:
    load(magic + table.pack({"a": 1})[8:])
    with pytest.raises(RuntimeError, match="no catalogue of this version"):
        table.entry("a")


def test_the_buckets_follow_each_other_to_the_end() -> None:
    content = FILE.read_bytes()
    at = len(table.MAGIC) + 8 * table.BUCKETS
    for number in range(table.BUCKETS):
        offset, length = struct.unpack_from("<II", content, 8 + 8 * number)
        assert offset == at
        at += length
    assert at == len(content)


# --- the packaged one


@cache
def everything() -> dict[str, Any]:
    return unpacked(FILE.read_bytes())


def of_kind(kind: str) -> dict[str, Any]:
    return {key: value for key, value in everything().items() if key.startswith(f"{kind}:")}


def test_it_is_small_and_holds_every_library() -> None:
    assert 100_000 < FILE.stat().st_size < BUDGET
    kinds = Counter(key.partition(":")[0] for key in everything())
    assert min(kinds[k] for k in ("body", "timm", "transformers", "diffusers", "model_type")) > 100
    libraries = Counter(name.partition(" ")[0] for name in everything()["architectures"])
    assert set(libraries) == {"diffusers", "open_clip", "timm", "torchvision", "transformers"}


def test_packing_it_again_gives_the_same_bytes() -> None:
    assert table.pack(everything()) == FILE.read_bytes()


def kernels_of(rank: int) -> tuple[int, ...]:
    return (8, 8, *(2,) * rank)


def test_every_outcome_means_something() -> None:
    axes_of = {
        n: len(o["stride"]) for n, o in enumerate(everything()["outcomes"]) if "padding" in o
    }
    assert len(axes_of) > 100
    for number, outcome in enumerate(everything()["outcomes"]):
        form, geometry, refusal = meaning(outcome, kernels_of(axes_of.get(number, 2)))
        assert form.startswith("conv")
        assert (geometry is None) is (refusal is not None)
        assert refusal is None or refusal.code in codes()
        assert geometry is None or Geometry.from_json(geometry.to_json()) == geometry


def strange(record: dict[str, Any], names: int, outcomes: int) -> Iterator[str]:
    """What of a record is out of range, or contradicts another part of it."""
    parsed = Record.of(record)
    if not set(parsed.architectures) <= set(range(names)) or not parsed.architectures:
        yield "architectures"
    if len(parsed.slots) != len(record["s"]) or not all(
        0 <= place < 20_000 for place in parsed.slots
    ):
        yield "places"
    for slot in parsed.slots.values():
        told = {said.outcome for said in slot.said}
        if not slot.said or not told <= set(range(outcomes)) or len(told) < len(slot.said):
            yield "outcomes"
        if not {a for said in slot.said for a in said.architectures} <= set(parsed.architectures):
            yield "who says it"
        axes = {len(kernel) for said in slot.said for kernel in said.kernels}
        sizes = [size for said in slot.said for kernel in said.kernels for size in kernel]
        if len(axes) != 1 or not axes <= {1, 2, 3} or min(sizes) < 1:
            yield "kernels"
        if slot.width and (slot.width[0] < 0 or not 0 <= slot.width[1] < 6):
            yield "width"
        if slot.any_kernel and len(slot.said) > 1:
            yield "any kernel, although they disagree"
        if not {outcome for row in (slot.positions or {}).values() for outcome in row} <= told:
            yield "positions"


def test_every_record_is_in_range() -> None:
    names, outcomes = len(everything()["architectures"]), len(everything()["outcomes"])
    bodies = of_kind("body")
    found = {digest: list(strange(record, names, outcomes)) for digest, record in bodies.items()}
    assert {digest: what for digest, what in found.items() if what} == {}
    assert all(len(digest) == len("body:") + 16 for digest in bodies)


@pytest.mark.parametrize(
    ("record", "what"),
    [
        ({"a": [9], "s": []}, "architectures"),
        ({"a": [], "s": []}, "architectures"),
        ({"a": [0], "s": [[-1, [[0, [[1]], [0]]], {}]]}, "places"),
        ({"a": [0], "s": [[0, [[0, [[1]], [0]]], {}], [0, [[0, [[1]], [0]]], {}]]}, "places"),
        ({"a": [0], "s": [[0, [[7, [[1]], [0]]], {}]]}, "outcomes"),
        ({"a": [0], "s": [[0, [[0, [[1]], [1]]], {}]]}, "who says it"),
        ({"a": [0], "s": [[0, [[0, [[1], [1, 1]], [0]]], {}]]}, "kernels"),
        ({"a": [0], "s": [[0, [[0, [[0]], [0]]], {}]]}, "kernels"),
        ({"a": [0], "s": [[0, [[0, [[1]], [0]]], {"w": [0, 6]}]]}, "width"),
        ({"a": [0], "s": [[0, [[0, [[1]], [0]]], {"p": {"x": [3]}}]]}, "positions"),
    ],
)
def test_a_record_out_of_range_is_seen(record: dict[str, Any], what: str) -> None:
    assert list(strange(record, names=2, outcomes=2)) == [what]


def test_every_class_of_a_model_type_has_its_entry() -> None:
    for key, classes in of_kind("model_type").items():
        kind = key.partition(":")[2]
        assert classes
        assert [c for c in classes if table.entry(f"transformers:{kind}:{c}") is None] == []


# --- when it is read


PROGRAM = """
import sys
import convsurgeon as cs
plan = cs.scan(sys.argv[1])
print([layer.verdict.value for layer in plan.files[0].layers], "torch" in sys.modules, "rich" in sys.modules)
"""


def test_it_is_read_without_torch(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "model.safetensors", {"a.weight": (2, 3, 4, 4)})
    command = [sys.executable, "-c", PROGRAM, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "['undecided'] False False\n"


@pytest.mark.parametrize(("shape", "opened"), [((2, 3), False), ((2, 3, 4, 4), True)])
def test_it_is_opened_for_weights_like_a_convs_only(
    shape: tuple[int, ...], opened: bool, tmp_path: Path, load: Any
) -> None:
    names = [f"{letter}.weight" for letter in "abcdef"]
    path = checkpoint(
        tmp_path / "model.safetensors", {**dict.fromkeys(names, (2, 3)), "g.weight": shape}
    )
    load(b"no catalogue at all")
    if opened:
        with pytest.raises(RuntimeError, match="no catalogue"):
            cs.scan(path)
    else:
        assert cs.scan(path).files[0].layers == ()
