"""Checkpoint files on disk: by hand, byte for byte, and by the libraries that write them."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from convsurgeon.header import lay_out, pack

Shape = tuple[int, ...]
NOBODY = 65534


def framed(text: str | bytes, data: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file from the text of its header and its data."""
    raw = text.encode() if isinstance(text, str) else text
    return (len(raw) if length is None else length).to_bytes(8, "little") + raw + data


def counting(size: int) -> bytes:
    """Bytes of which neighbours differ."""
    return (bytes(i * 7 % 251 for i in range(251)) * (size // 251 + 1))[:size]


def checkpoint(
    path: Path,
    shapes: Mapping[str, Shape],
    metadata: dict[str, str] | None = None,
    dtype: str = "F32",
) -> Path:
    """Write a file as the reference would: packed, padded to eight bytes."""
    header = pack([(name, dtype, shape) for name, shape in shapes.items()], metadata)
    path.write_bytes(lay_out(header) + counting(header.data_bytes))
    return path


def index_of(folder: Path, weight_map: Mapping[str, Any], stem: str = "model") -> Path:
    """Write a shard index."""
    path = folder / f"{stem}.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}), "utf-8")
    return path


def listing(folder: Path) -> list[str]:
    """Every name below a folder, temporaries and hidden ones included."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@contextmanager
def elsewhere(folder: Path) -> Iterator[Path]:
    """A folder on another file system than `folder`; the test is skipped where there is none."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK) or memory.stat().st_dev == folder.stat().st_dev:
        pytest.skip("there is no second file system to write to")
    with tempfile.TemporaryDirectory(dir=memory) as name:
        yield Path(name)


@contextmanager
def unprivileged(folder: Path) -> Iterator[None]:
    """Run as a user whom permissions bind, inside `folder`; use relative paths there."""
    before, user = Path.cwd(), os.geteuid()
    os.chdir(folder)
    if user == 0:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        os.chdir(before)
