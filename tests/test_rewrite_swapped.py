"""The file that a swap writes, byte for byte."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors
from hypothesis import given
from hypothesis import strategies as st

import convsurgeon as cs
from convsurgeon.header import lay_out, pack
from convsurgeon.store import read_safetensors
from tests.files import counting, framed

DESERIALIZE: Any = safetensors.deserialize
TENSORS = [
    ("b", "F32", (2,)),
    ("p.weight", "F32", (2, 2, 1, 2)),
    ("p.bias", "F32", (2,)),
    ("n", "U8", (3,)),
]
METADATA = {"format": "pt", "a": 'é"\n'}


def source(folder: Path, **changes: Any) -> Path:
    header = pack(TENSORS, changes.get("metadata", METADATA))
    path = folder / "model.safetensors"
    path.write_bytes(lay_out(header) + counting(header.data_bytes))
    return path


def swap(path: Path, out: Path, **choices: Any) -> bytes:
    report = cs.swap(path, out, verify="bits", **{"geometry": ["p=s1x2"], **choices})
    assert [file.outcome for file in report.files] == ["written"]
    return out.read_bytes()


def split(whole: bytes) -> tuple[int, dict[str, Any], bytes]:
    length = int.from_bytes(whole[:8], "little")
    return length, json.loads(whole[8 : 8 + length]), whole[8 + length :]


def test_golden(tmp_path: Path) -> None:
    path = source(tmp_path)
    before = path.read_bytes()
    old_length, _, data = split(before)
    whole = swap(path, tmp_path / "out.safetensors", layout="p1 p2 c")
    length, header, moved = split(whole)
    recipe = json.loads(header["__metadata__"].pop("convsurgeon"))
    assert header == {
        "__metadata__": METADATA,
        "b": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        "p.bias": {"dtype": "F32", "shape": [2], "data_offsets": [8, 16]},
        "p.weight": {"dtype": "F32", "shape": [2, 4], "data_offsets": [16, 48]},
        "n": {"dtype": "U8", "shape": [3], "data_offsets": [48, 51]},
    }
    assert list(header) == ["__metadata__", "b", "p.bias", "p.weight", "n"]
    assert list(header["__metadata__"]) == ["a", "format"]
    weight = [data[16 + 4 * i : 20 + 4 * i] for i in (0, 2, 1, 3, 4, 6, 5, 7)]
    assert moved == data[:16] + b"".join(weight) + data[48:]
    assert (length - old_length) % 4096 == 0
    assert recipe == {
        "schema": "convsurgeon.recipe/1",
        "tool": f"convsurgeon {cs.__version__}",
        "original": {
            "name": "model.safetensors",
            "header_length": old_length,
            "header_sha256": hashlib.sha256(before[: 8 + old_length]).hexdigest(),
            "has_metadata": True,
            "header": None,
            "dropped": [],
        },
        "steps": [
            {
                "key": "p.weight",
                "rule": "patchify",
                "layout": "p1 p2 c",
                "from": {"form": "conv2d", "shape": [2, 2, 1, 2]},
                "to": {"form": "linear", "shape": [2, 4]},
                "geometry": {"kernel": [1, 2], "stride": [1, 2], "padding": [0, 0], "dilation": [1, 1], "groups": 1},
                "evidence": {"level": "user", "source": "--geometry 'p=s1x2'"},
                "sha256": hashlib.sha256(data[16:48]).hexdigest(),
            }
        ],
    }  # fmt: skip
    assert path.read_bytes() == before


def test_the_metadata_comes_last_and_the_rest_keeps_its_order(tmp_path: Path) -> None:
    text = '{"__metadata__":{"z":"1","a":"2","m":"3"},"p.weight":{"dtype":"F32","shape":[1,1,2],"data_offsets":[0,8]}}'
    path = tmp_path / "m.safetensors"
    path.write_bytes(framed(text, counting(8)))
    _, header, _ = split(swap(path, tmp_path / "o.safetensors", geometry=["p=s2"]))
    assert list(header["__metadata__"]) == ["z", "a", "m", "convsurgeon"]


def test_a_reshape_leaves_the_data_alone(tmp_path: Path) -> None:
    path = source(tmp_path)
    _, header, data = split(swap(path, tmp_path / "out.safetensors"))
    assert data == split(path.read_bytes())[2]
    assert header["p.weight"]["shape"] == [2, 4]


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    path = source(tmp_path)
    assert swap(path, tmp_path / "1.safetensors") == swap(path, tmp_path / "2.safetensors")
    report = cs.swap(path, tmp_path / "1.safetensors", verify="bits", geometry=["p=s1x2"])
    assert report.files[0].outcome == "same"


@given(
    padding=st.integers(0, 9000),
    metadata=st.none() | st.dictionaries(st.text(max_size=3), st.text(max_size=9), max_size=2),
)
def test_the_new_length_is_congruent_and_the_reference_reads_it(
    tmp_path_factory: pytest.TempPathFactory, padding: int, metadata: dict[str, str] | None
) -> None:
    folder = tmp_path_factory.mktemp("congruent")
    if metadata is not None:
        metadata.pop("convsurgeon", None)
        metadata = {k: v for k, v in metadata.items() if (k + v).isprintable()}
    header = pack(TENSORS, metadata)
    text = lay_out(header)[8:]
    path = folder / "model.safetensors"
    path.write_bytes(framed(text + b" " * padding, counting(header.data_bytes)))
    whole = swap(path, folder / "out.safetensors")
    length, _, data = split(whole)
    assert (length - len(text) - padding) % 4096 == 0
    assert length >= len(text)
    read = dict(DESERIALIZE(whole))
    assert {name: tuple(entry["shape"]) for name, entry in read.items()} == {
        name: (2, 4) if name == "p.weight" else shape for name, _, shape in TENSORS
    }
    assert bytes(read["p.weight"]["data"]) == data[16:48]


def test_without_a_rewrite_nothing_is_written(tmp_path: Path) -> None:
    path = source(tmp_path)
    out = tmp_path / "out.safetensors"
    with pytest.raises(cs.ConvsurgeonError) as caught:
        cs.swap(path, out, verify="bits")
    assert caught.value.code == "CS080"
    assert not out.exists()


def test_a_second_swap_adds_to_the_recipe(tmp_path: Path) -> None:
    first = tmp_path / "1.safetensors"
    swap(source(tmp_path), first)
    second = swap(first, tmp_path / "2.safetensors", geometry=[], to="conv")
    file = read_safetensors(tmp_path / "2.safetensors")
    assert file.header.by_name["p.weight"].shape == (2, 2, 1, 2)
    length, header, _ = split(second)
    steps = json.loads(header["__metadata__"]["convsurgeon"])["steps"]
    assert [(s["from"]["form"], s["to"]["form"]) for s in steps] == [
        ("conv2d", "linear"),
        ("linear", "conv2d"),
    ]
    assert (length - split(first.read_bytes())[0]) % 4096 == 0


def test_a_foreign_note_under_our_key_is_refused(tmp_path: Path) -> None:
    path = source(tmp_path, metadata={"convsurgeon": "not ours"})
    with pytest.raises(cs.ConvsurgeonError) as caught:
        cs.swap(path, tmp_path / "o.safetensors", verify="bits", geometry=["p=s1x2"])
    assert caught.value.code == "CS082"
    assert caught.value.where == str(path)
