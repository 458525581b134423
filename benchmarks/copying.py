"""`swap --verify bits` of a reshape-only plan against copying the file.

    python benchmarks/copying.py --gigabytes 2 --rounds 5

prints wall times, ratios and peak memory, in turns in one run, of

- swap: `convsurgeon swap --verify bits` (copied, synced, compared, published),
- copy: `cp`, `sync`, `cmp` of the same file,
- load and save: `safetensors.torch.load_file`, reshape, `save_file`, `sync`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from made_files import apart, write_model
from measure import Runs, in_turns, machine, table

TOOL = (sys.executable, "-m", "convsurgeon")
GEOMETRY = ("--geometry", "proj=s16")
SWAP, COPY, LOAD = "swap --verify bits", "cp, sync, cmp", "load_file, reshape, save_file, sync"
_LOAD_AND_SAVE = """
import os, sys
from safetensors.torch import load_file, save_file
tensors = load_file(sys.argv[1])
tensors["proj.weight"] = tensors["proj.weight"].flatten(1)
save_file(tensors, sys.argv[2], metadata={"format": "pt"})
os.sync()
"""


def commands(source: Path, target: Path) -> dict[str, Sequence[str]]:
    """Return the three commands that make one file out of another."""
    a, b = str(source), str(target)
    return {
        SWAP: [*TOOL, "swap", a, "-o", b, "--verify", "bits", *GEOMETRY],
        COPY: ["sh", "-c", 'cp "$0" "$1" && sync "$1" && cmp "$0" "$1"', a, b],
        LOAD: [sys.executable, "-c", _LOAD_AND_SAVE, a, b],
    }


def measured(place: Path, gigabytes: float, rounds: int) -> dict[str, Runs]:
    """Measure with files of one size, in a folder of their own."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        source, target = Path(folder) / "model.safetensors", Path(folder) / "out.safetensors"
        apart(write_model, source, gigabytes)
        clear = lambda: target.unlink(missing_ok=True)  # noqa: E731 - one line says it
        return in_turns(commands(source, target), rounds, clear)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None, help="where the files are written")
    options = parser.parse_args()
    if shutil.which("cmp") is None:
        sys.exit("cmp is not installed")
    results = measured(options.folder, options.gigabytes, options.rounds)
    print(f"{options.gigabytes} GB, {machine()}")
    print(table(results, COPY))


if __name__ == "__main__":
    main()
