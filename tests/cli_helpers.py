"""What the tests of proof, api, command line and report share: small files, runs, snapshots.

Files are read and written here by a few lines of their own, not by the package under test.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from typer.testing import CliRunner

from convsurgeon.cli import app
from convsurgeon.report.show import show
from convsurgeon.results import Report

Shape = tuple[int, ...]
SNAPSHOTS = Path(__file__).parent / "snapshots"
NASTY = ("\x1b[31mred\x1b[0m", "[bold]", "[/bold]", "\u202etxt", "line\nbreak", "\u200b", "a|b`c")


class Tensor(NamedTuple):
    """One tensor as it stands in a file."""

    dtype: str
    shape: Shape
    data: bytes


def f32(shape: Shape, seed: int = 0) -> Tensor:
    """Normally distributed values."""
    values = np.random.default_rng(seed).standard_normal(prod(shape)).astype("<f4")
    return Tensor("F32", shape, values.tobytes())


def write(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> Path:
    """Write a safetensors file; the data follows the order of the mapping."""
    content: dict[str, Any] = {} if metadata is None else {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + len(tensor.data)
        content[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [begin, end]}
    text = json.dumps(content).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    data = b"".join(tensor.data for tensor in tensors.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a safetensors file: tensors in the order of the data, and the metadata."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    entries = json.loads(content[8:start])
    metadata = entries.pop("__metadata__", {})
    tensors = {}
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        data = content[start + begin : start + end]
        tensors[name] = Tensor(entry["dtype"], tuple(entry["shape"]), data)
    return tensors, metadata


EMBED = "--geometry", "embed.proj=s2"
STATED = ["embed.proj=s2"]


def model_tensors() -> dict[str, Tensor]:
    """A patch embedding, a stem that overlaps (nothing says so), and a head."""
    return {
        "embed.proj.weight": f32((8, 3, 2, 2), 1),
        "embed.proj.bias": f32((8,), 2),
        "stem.weight": f32((4, 3, 3, 3), 3),
        "head.weight": f32((5, 8), 4),
    }


def model_file(path: Path) -> Path:
    """The tensors above in one file."""
    return write(path, model_tensors(), {"format": "pt"})


def model_shards(folder: Path) -> Path:
    """The same in two shards with their index; return the index."""
    tensors = model_tensors()
    names = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    weight_map: dict[str, str] = {}
    for place, name in enumerate(names):
        part = {key: tensors[key] for key in list(tensors)[2 * place : 2 * place + 2]}
        write(folder / name, part, {"format": "pt"})
        weight_map |= dict.fromkeys(part, name)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    return index


def listing(folder: Path) -> dict[str, bytes | None]:
    """Everything below a folder: the bytes of files, None for folders."""
    found = sorted(folder.rglob("*"))
    return {str(p.relative_to(folder)): None if p.is_dir() else p.read_bytes() for p in found}


class Ran(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


def invoke(*arguments: object, columns: int = 80) -> Ran:
    """Run a command line in this process."""
    environment = {"COLUMNS": str(columns), "NO_COLOR": "1", "TERM": "dumb"}
    result = CliRunner(env=environment).invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Ran(result.exit_code, result.stdout, result.stderr)


def document(*arguments: object) -> tuple[int, dict[str, Any]]:
    """Run a command line with --json; return its exit code and its one document."""
    ran = invoke(*arguments, "--json")
    content: dict[str, Any] = json.loads(ran.out, parse_constant=not_json)
    return ran.code, content


def not_json(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def process(*arguments: object, **environment: str) -> Ran:
    """Run a command line in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "convsurgeon", *map(str, arguments)],
        capture_output=True, env={**os.environ, **environment}, check=False,
    )  # fmt: skip
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


def python(code: str, *arguments: object) -> Ran:
    """Run a few lines of Python in a process of their own."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


def shown(report: Report, width: int = 80) -> str:
    """What a report looks like at a width, without colour."""
    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system=None, highlight=False)
    show(console, report)
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"


def check_snapshot(name: str, text: str) -> None:
    """Compare with tests/snapshots/NAME; UPDATE_SNAPSHOTS=1 writes it."""
    path = SNAPSHOTS / name
    if os.environ.get("UPDATE_SNAPSHOTS"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")
