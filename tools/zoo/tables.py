"""Rows in files: JSON lines, plain while they are written, xz when they are complete."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """Return the rows of a file, compressed or not; a torn last line is left out."""
    data = path.read_bytes()
    data = lzma.decompress(data) if path.suffix == ".xz" else data
    return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines() if line]


def append(path: Path, row: Row) -> None:
    """Add a row to a plain file, on disk before this returns, after a torn line if there is one."""
    with path.open("a+b") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 1))
        torn = size > 0 and file.read(1) != b"\n"
        file.write((b"\n" if torn else b"") + json.dumps(row).encode() + b"\n")


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write all rows at once, compressed if the name says so."""
    data = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    path.write_bytes(lzma.compress(data, preset=9) if path.suffix == ".xz" else data)
