"""undone(swapped(x)) == x, byte for byte, whoever wrote x."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convsurgeon as cs
from convsurgeon.dtypes import BITS
from convsurgeon.errors import OutputError, RecipeError
from convsurgeon.header import pack
from convsurgeon.store import read_safetensors
from tests.files import checkpoint, counting, framed, listing
from tests.strategies import METADATA, NAMES

MODULES = ("patch_embed.proj", "é.proj", "\U0001f600", "a.b.c.proj")
FLOATS = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2")


@dataclass(frozen=True)
class Case:
    """A file by some writer, and the swaps that are done to it."""

    content: bytes
    swaps: tuple[dict[str, Any], ...]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    linear = draw(st.booleans())
    module, layout = draw(st.sampled_from(MODULES)), draw(st.sampled_from(["c p1 p2", "p1 p2 c"]))
    kernel = tuple(draw(st.lists(st.integers(1, 3), min_size=1, max_size=3)))
    outputs, channels = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    shape = (outputs, channels * prod(kernel)) if linear else (outputs, channels, *kernel)
    tensors = [(f"{module}.weight", draw(st.sampled_from(FLOATS)), shape)]
    for name in draw(st.lists(NAMES, max_size=3, unique=True)):
        if not name.startswith(module):
            dtype = draw(st.sampled_from([d for d in BITS if BITS[d] >= 8]))
            tensors.append((name, dtype, tuple(draw(st.lists(st.integers(0, 3), max_size=2)))))
    metadata = draw(METADATA)
    if metadata is not None:
        metadata.pop("convsurgeon", None)
    size = "x".join(map(str, kernel))
    patches = draw(st.booleans()) or not linear
    # A kernel over the whole input has stride 1: the rules make no Linear of it again.
    count = draw(st.integers(1, 3)) if patches else 1
    there: dict[str, Any] = {
        "to": "conv" if linear else "linear",
        "layers": [module],
        "layout": layout,
    }
    if patches:
        there["geometry"] = [f"*=k{size},s{size}"]
    else:
        there["input_shape"] = [f"*={channels}x{size}"]
    back = {"to": "linear" if linear else "conv", "layers": [module]}
    return Case(draw(written(tensors, metadata)), (there, back, there)[:count])


@st.composite
def written(
    draw: st.DrawFn, tensors: list[tuple[str, str, tuple[int, ...]]], metadata: Any
) -> bytes:
    """The file in some order, with some white space and padding."""
    header = pack(tensors, metadata)
    entries: list[tuple[str, Any]] = [
        (t.name, {"dtype": t.dtype, "shape": t.shape, "data_offsets": (t.begin, t.end)})
        for t in header.tensors
    ]
    if metadata is not None:
        entries.append(("__metadata__", metadata))
    if draw(st.booleans()):
        entries = draw(st.permutations(entries))
    style: dict[str, Any] = draw(
        st.sampled_from(
            [{"separators": (",", ":")}, {}, {"indent": 2}, {"separators": (" ,\t", "\n: ")}]
        )
    )
    text = json.dumps(dict(entries), ensure_ascii=draw(st.booleans()), **style).encode()
    text += b" " * draw(st.sampled_from([0, -len(text) % 8, 1, 5000]))
    return framed(text, counting(header.data_bytes))


@settings(max_examples=200)
@given(case=cases())
def test_any_number_of_swaps_is_undone(
    tmp_path_factory: pytest.TempPathFactory, case: Case
) -> None:
    folder = tmp_path_factory.mktemp("undone")
    path = folder / "model.safetensors"
    path.write_bytes(case.content)
    lengths = [read_safetensors(path).header_length]
    for number, choices in enumerate(case.swaps):
        path, before = folder / f"{number}.safetensors", path
        (file,) = cs.swap(before, path, verify="bits", **choices).files
        assert (file.outcome, len(file.plan.rewrites)) == ("written", 1)
        lengths.append(read_safetensors(path).header_length)
    assert len({length % 4096 for length in lengths}) == 1
    (restored,) = cs.restore(path, folder / "again.safetensors").files
    assert (folder / "again.safetensors").read_bytes() == case.content
    assert restored.outcome == "written"
    assert (
        cs.restore(path).files[0].outcome == "same"
    )  # under its recorded name it is there already


def test_two_kernels_that_cut_the_inputs_differently(tmp_path: Path) -> None:
    """24 inputs as 8x3x1, then as 4x3x2: one rearrangement cannot say both, two can."""
    for layout in ("c p1 p2", "p1 p2 c"):
        folder = tmp_path / layout
        folder.mkdir()
        files = [folder / f"{n}.safetensors" for n in range(5)]
        checkpoint(files[0], {"p.weight": (4, 24)})
        choices: list[dict[str, Any]] = [
            {"to": "conv", "input_shape": ["p=8x3x1"], "layout": layout},
            {"geometry": ["p=k3x1,s3x1"]},
            {"to": "conv", "input_shape": ["p=4x3x2"]},
        ]
        for old, new, choice in zip(files, files[1:], choices, strict=False):
            cs.swap(old, new, verify="bits", **choice)
        assert read_safetensors(files[3]).header.by_name["p.weight"].shape == (4, 4, 3, 2)
        cs.restore(files[3], files[4])
        assert files[4].read_bytes() == files[0].read_bytes()


def test_a_changed_weight_cannot_be_restored(tmp_path: Path) -> None:
    checkpoint(tmp_path / "m.safetensors", {"p.weight": (2, 3, 2, 2), "z": (1,)})
    out = tmp_path / "o.safetensors"
    cs.swap(tmp_path / "m.safetensors", out, verify="bits", geometry=["p=s2"])
    whole = bytearray(out.read_bytes())
    whole[-5] ^= 1  # the last byte of the weight; z is behind it
    out.write_bytes(whole)
    with pytest.raises(RecipeError) as caught:
        cs.restore(out, tmp_path / "again.safetensors")
    assert (caught.value.code, caught.value.where) == ("CS082", str(out))
    assert listing(tmp_path) == ["m.safetensors", "o.safetensors"]


def test_refusals_of_restore(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "m.safetensors", {"p.weight": (2, 3, 2, 2)})
    with pytest.raises(RecipeError) as caught:
        cs.restore(path)
    assert (caught.value.code, caught.value.where) == ("CS081", str(path))
    out = tmp_path / "o.safetensors"
    cs.swap(path, out, verify="bits", geometry=["p=s2"])
    with pytest.raises(OutputError) as itself:
        cs.restore(out, out, force=True)
    assert itself.value.code == "CS072"
    path.write_bytes(b"something else")
    with pytest.raises(OutputError) as exists:
        cs.restore(out)
    assert (exists.value.code, path.read_bytes()) == ("CS070", b"something else")


def test_a_header_longer_than_the_default_is_restored(tmp_path: Path) -> None:
    """Swap packs what was padding, so the swapped file is readable by default; so is its undo."""
    path = checkpoint(tmp_path / "m.safetensors", {"p.weight": (2, 3, 2, 2)})
    length, data = read_safetensors(path).header_length, path.read_bytes()[-96:]
    path.write_bytes(framed(path.read_bytes()[8 : 8 + length].ljust(25_000_004), data))
    out = tmp_path / "o.safetensors"
    cs.swap(path, out, verify="bits", geometry=["p=s2"], max_header_bytes=30_000_000)
    cs.restore(out, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
