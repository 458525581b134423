"""`verify` of a swapped file against comparing two files.

    python benchmarks/verifying.py --gigabytes 2 --rounds 5

prints wall times, ratios and peak memory, in turns in one run, of

- verify: every proof of one rewritten patch embedding, every other byte compared,
- verify --bits: without the proofs that need torch,
- verify --json: every proof, and digests of both files whole,
- cmp: `cmp` of the original with a copy of it, and then `python -c "import torch"`.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from made_files import checkpoint, write
from measure import in_turns, machine, table

_BASE = "cmp, import torch"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None, help="where the files are written")
    options = parser.parse_args()
    if shutil.which("cmp") is None:
        sys.exit("cmp is not installed")
    tool = [sys.executable, "-m", "convsurgeon"]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        names = ("model.safetensors", "copy.safetensors", "out.safetensors")
        source, copy, swapped = (str(Path(folder) / name) for name in names)
        write(Path(source), checkpoint(options.gigabytes))
        shutil.copyfile(source, copy)
        swap = [*tool, "swap", source, "-o", swapped, "--quiet", "--verify", "bits"]
        subprocess.run([*swap, "--geometry", "proj=s16"], check=True)
        verify = [*tool, "verify", source, swapped]
        script = 'cmp "$0" "$1" && exec "$2" -c "import torch"'
        commands = {
            "verify": verify,
            "verify --bits": [*verify, "--bits"],
            "verify --json": [*verify, "--json"],
            _BASE: ["sh", "-c", script, source, copy, sys.executable],
            "cmp": ["cmp", source, copy],
        }
        results = in_turns(commands, options.rounds, lambda: None)
    print(f"{options.gigabytes} GB, {machine()}")
    print(table(results, _BASE))


if __name__ == "__main__":
    main()
