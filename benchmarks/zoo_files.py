"""Rows about public architectures -> checkpoints on disk: real headers, no data written."""

from __future__ import annotations

import json
import lzma
import struct
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

CENSUS = Path(__file__).parent.parent / "tests" / "census" / "census.jsonl.xz"
_CODES = {
    "float64": ("F64", 8),
    "float32": ("F32", 4),
    "float16": ("F16", 2),
    "bfloat16": ("BF16", 2),
    "int64": ("I64", 8),
    "int32": ("I32", 4),
    "int16": ("I16", 2),
    "int8": ("I8", 1),
    "uint8": ("U8", 1),
    "bool": ("BOOL", 1),
}

Row = Mapping[str, Any]


def rows(path: Path = CENSUS) -> Iterator[dict[str, Any]]:
    """Return the rows of a file of JSON lines, compressed with xz."""
    with lzma.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def write(row: Row, folder: Path, *, config: bool) -> Path:
    """Write the checkpoint that a row describes as a sparse file.

    Args:
        row: a row of the census.
        folder: where it is written, as `model.safetensors`.
        config: write the `config.json` beside it too, where the row has one that this library
            calls by that name.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for key, (dtype, shape) in row["tensors"].items():
        code, size = _CODES[dtype.removeprefix("torch.")]
        begin, end = end, end + size * prod(shape)
        header[key] = {"dtype": code, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path = folder / "model.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    beside = folder / "config.json"
    beside.unlink(missing_ok=True)
    if config and row["config"] and row["source"] != "open_clip":
        named = row["config"]
        if row["source"] == "diffusers":
            named = {"_class_name": row["cls"], **named}
        beside.write_text(json.dumps(named))
    return path
