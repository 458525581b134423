"""What a command costs before it touches a tensor: start-up, headers alone, and in place.

    python benchmarks/commands.py --tensors 100000 --gigabytes 2

prints wall times and peak memory, in turns in one run.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from copying import GEOMETRY, TOOL
from made_files import apart, write_model, write_shards, write_tensors
from measure import Runs, in_turns, machine, table

PASS, IMPORTS, HELP, BARE = "python -c pass", "its imports", "convsurgeon --help", "scan, bare file"
FEW, MANY = "scan, 100 tensors in shards", "scan, many tensors in shards"
ONE, ONE_JSON, ONE_DRY = "scan, one file", "scan --json, one file", "swap --dry-run, one file"
ONE_IN_PLACE = "swap --in-place, one file"
HEADERS_ONLY = (MANY, ONE, ONE_JSON, ONE_DRY, ONE_IN_PLACE)
"""Those that read headers alone, of many tensors."""
READ = "reading alone"
IN_PLACE, UNDO = "swap --in-place", "restore --in-place"
_IMPORTS = "import convsurgeon.cli, convsurgeon.api.swapping, convsurgeon.api.restoring"
_PARSE = """
import sys
from convsurgeon.errors import ConvsurgeonError
from convsurgeon.header import parse
try:
    parse(open(sys.argv[1], "rb").read(), 0)
except ConvsurgeonError:
    pass
"""
_READ = "import sys, convsurgeon.header; len(open(sys.argv[1], 'rb').read())"
_SHARDS = 100


def commands(place: Path, tensors: int, rounds: int) -> dict[str, Runs]:
    """Measure start-up, and the commands that read headers alone."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        few, many = Path(folder) / "few", Path(folder) / "many"
        one, bare = Path(folder) / "one.safetensors", Path(folder) / "bare.safetensors"
        kept = Path(folder) / "kept.safetensors"
        apart(write_shards, few, _SHARDS, 1, 0.0)
        apart(write_shards, many, _SHARDS, tensors // _SHARDS, 0.0)
        apart(write_tensors, one, tensors)
        apart(write_tensors, bare, 2)
        shutil.copyfile(one, kept)
        scan = [*TOOL, "scan", *GEOMETRY]
        chosen: dict[str, Sequence[str]] = {
            PASS: [sys.executable, "-c", "pass"],
            IMPORTS: [sys.executable, "-c", _IMPORTS],
            HELP: [*TOOL, "--help"],
            BARE: [*TOOL, "scan", str(bare)],
            FEW: [*scan, str(few)],
            MANY: [*scan, str(many)],
            ONE: [*scan, str(one)],
            ONE_JSON: [*scan, str(one), "--json"],
            ONE_DRY: [*TOOL, "swap", str(one), *GEOMETRY, "--dry-run"],
            ONE_IN_PLACE: _in_place(one),
        }
        return in_turns(chosen, rounds, lambda: _again(kept, one))


def _again(kept: Path, one: Path) -> None:
    # In place changes it, and leaves a recipe beside it.
    for path in one.parent.glob(f"{one.name}*"):
        path.unlink()
    shutil.copyfile(kept, one)


def _in_place(path: Path) -> list[str]:
    return [*TOOL, "swap", str(path), *GEOMETRY, "--in-place", "--verify", "bits"]


def in_place(place: Path, gigabytes: float, rounds: int) -> dict[str, Runs]:
    """Measure a swap in place and its undo on a file of some size."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        path = Path(folder) / "model.safetensors"
        apart(write_model, path, gigabytes)
        undo = [*TOOL, "restore", str(path), "--in-place"]
        return in_turns({IN_PLACE: _in_place(path), UNDO: undo}, rounds)


def parsing(place: Path, size: int, rounds: int) -> dict[str, Runs]:
    """Measure the parser on headers of `size` bytes, valid and hostile, each in a fresh process."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        apart(_write_headers, Path(folder), size)
        chosen: dict[str, Sequence[str]] = {}
        for path in sorted(Path(folder).iterdir()):
            chosen[path.name] = [sys.executable, "-c", _PARSE, str(path)]
            chosen[READ] = [sys.executable, "-c", _READ, str(path)]
        return in_turns(chosen, rounds)


def _write_headers(folder: Path, size: int) -> None:
    for name, header in _headers(size).items():
        (folder / name).write_bytes(header)


def _headers(size: int) -> dict[str, bytes]:
    entry = b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}'
    key, nested, flat = b'"%d":""', b"[" * size, b"[]," * (size // 3)
    tensors = b",".join(entry % number for number in range(size // 58))
    keys = b",".join(key % number for number in range(size // 12))
    return {
        "tensors": b"{%s}" % tensors,
        "metadata keys": b'{"__metadata__":{%s}}' % keys,
        "nested arrays": b'{"a":%s' % nested,
        "flat arrays": b'{"a":[%s' % flat,
        "digits": b'{"a":{"dtype":"U8","shape":[%s' % (b"9" * size),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tensors", type=int, default=100_000)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--header-bytes", type=int, default=25_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None, help="where the files are written")
    options = parser.parse_args()
    print(machine())
    print(table(commands(options.folder, options.tensors, options.rounds), PASS))
    print(table(in_place(options.folder, options.gigabytes, options.rounds), IN_PLACE))
    print(table(parsing(options.folder, options.header_bytes, options.rounds), READ))


if __name__ == "__main__":
    main()
