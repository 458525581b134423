"""Whoever wrote a file: swapped and restored, it is the same file byte for byte."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch as safetensors_torch
import torch

import convsurgeon as cs

LAYOUTS = ("c p1 p2", "p1 p2 c")


def tensors() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {
        "z.norm.weight": torch.randn(8, generator=generator),
        "proj.weight": torch.randn(8, 3, 2, 2, generator=generator),
        "proj.bias": torch.randn(8, generator=generator),
        "a.scale": torch.tensor(0.5, dtype=torch.bfloat16),
    }


def by_hand(text: Callable[[dict[str, Any]], str], order: list[str], metadata: Any = None) -> bytes:
    """Write a file whose data follow `order`; `text` makes the header of its entries."""
    entries: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    data = b""
    for name in order:
        tensor = tensors()[name]
        piece = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        dtype = {torch.float32: "F32", torch.bfloat16: "BF16"}[tensor.dtype]
        offsets = [len(data), len(data) + len(piece)]
        entries[name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        data += piece
    header = text(entries).encode()
    return struct.pack("<Q", len(header)) + header + data


def compact(entries: dict[str, Any]) -> str:
    return json.dumps(entries, separators=(",", ":"))


def backwards(entries: dict[str, Any]) -> str:
    return compact({key: entries[key] for key in reversed(entries)})


def inside_out(entries: dict[str, Any]) -> str:
    fields = {n: {k: e[k] for k in sorted(e)} for n, e in entries.items()}
    return compact(fields)


NAMES = list(tensors())
HAND: dict[str, bytes] = {
    "no padding": by_hand(compact, sorted(NAMES)),
    "odd padding": by_hand(lambda e: compact(e) + " " * 13, NAMES),
    "much padding": by_hand(lambda e: compact(e) + " " * 5000, NAMES),
    "key order": by_hand(backwards, NAMES, {"format": "pt", "a": "b"}),
    "field order": by_hand(inside_out, sorted(NAMES)),
    "pretty": by_hand(lambda e: json.dumps(e, indent=4), NAMES, {"format": "pt"}),
    "spaces": by_hand(json.dumps, sorted(NAMES), {}),
    "escapes": by_hand(lambda e: compact(e).replace("proj", "pr\\u006fj"), NAMES),
    "names": by_hand(compact, NAMES, {"ü": "\u2028", "description": "x" * 300}),
}


def round_trip(path: Path, layout: str) -> None:
    out, back = path.with_name("out.safetensors"), path.with_name("back.safetensors")
    cs.swap(path, out, geometry=["proj=s2"], layout=layout)
    assert cs.verify(path, out).equivalent
    read = safetensors_torch.load_file(out)
    weight = tensors()["proj.weight"]
    flat = weight if layout == "c p1 p2" else weight.movedim(1, -1)
    assert torch.equal(read["proj.weight"], flat.flatten(1))
    cs.restore(out, back)
    assert back.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"format": "pt", "by": "me"}])
def test_files_of_the_library(metadata: dict[str, str] | None, layout: str, tmp_path: Path) -> None:
    path = tmp_path / "in.safetensors"
    safetensors_torch.save_file(tensors(), path, metadata)
    round_trip(path, layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", HAND)
def test_files_written_by_hand(name: str, layout: str, tmp_path: Path) -> None:
    path = tmp_path / "in.safetensors"
    path.write_bytes(HAND[name])
    expected = safetensors_torch.load_file(path)  # the reference reads it as we mean it
    assert all(torch.equal(expected[key], tensor) for key, tensor in tensors().items())
    round_trip(path, layout)


def test_twice_there_and_back_again(tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    path, back = tmp_path / "in.safetensors", tmp_path / "back.safetensors"
    path.write_bytes(HAND["pretty"])
    cs.swap(path, first, geometry=["proj=s2"], layout="p1 p2 c")
    cs.swap(first, second, to="conv", layers=["proj"], layout="p1 p2 c")
    cs.restore(second, back)
    assert back.read_bytes() == path.read_bytes()
