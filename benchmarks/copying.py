"""`swap --verify bits` of a reshape-only plan against copying the file.

    python benchmarks/copying.py --gigabytes 2 --rounds 5

prints wall times, ratios and peak memory, in turns in one run, of

- swap: `convsurgeon swap --verify bits` (copied, synced, compared, published),
- copy: `cp`, `sync`, `cmp` of the same file,
- load and save: `safetensors.torch.load_file`, reshape, `save_file`, `sync`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from measure import in_turns, machine, table

from convsurgeon.header import Header, lay_out, pack

_CHUNK = 1 << 20
_LOAD_AND_SAVE = """
import os, sys
from safetensors.torch import load_file, save_file
tensors = load_file(sys.argv[1])
tensors["proj.weight"] = tensors["proj.weight"].flatten(1)
save_file(tensors, sys.argv[2], metadata={"format": "pt"})
os.sync()
"""


def checkpoint(gigabytes: float) -> Header:
    """Return the header of a made-up model with one patch embedding."""
    rows = max(1, int(gigabytes * 1e9 / 64 / 4096 / 4))
    blocks = ((f"blocks.{i}.weight", "F32", (rows, 4096)) for i in range(64))
    return pack([("proj.weight", "F32", (1024, 3, 16, 16)), *blocks], {"format": "pt"})


def write(path: Path, header: Header) -> None:
    """Write the file with data that does not compress to nothing."""
    with path.open("wb") as file:
        file.write(lay_out(header))
        for piece in _noise(header.data_bytes):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _noise(count: int) -> Iterator[bytes]:
    block = os.urandom(_CHUNK)
    for done in range(0, count, _CHUNK):
        yield block[: min(_CHUNK, count - done)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None, help="where the files are written")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        source, target = Path(folder) / "model.safetensors", Path(folder) / "out.safetensors"
        write(source, checkpoint(options.gigabytes))
        a, b = str(source), str(target)
        swap = [sys.executable, "-m", "convsurgeon", "swap", a, "-o", b, "--verify", "bits"]
        commands = {
            "swap --verify bits": [*swap, "--geometry", "proj=s16"],
            "cp, sync, cmp": ["sh", "-c", 'cp "$0" "$1" && sync "$1" && cmp "$0" "$1"', a, b],
            "load_file, reshape, save_file": [sys.executable, "-c", _LOAD_AND_SAVE, a, b],
        }
        if shutil.which("cmp") is None:
            sys.exit("cmp is not installed")
        results = in_turns(commands, options.rounds, lambda: target.unlink(missing_ok=True))
    print(f"{options.gigabytes} GB, {machine()}")
    print(table(results, "cp, sync, cmp"))


if __name__ == "__main__":
    main()
