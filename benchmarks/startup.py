"""Start-up: `convsurgeon --help` and `scan` of a bare file against `python -c pass`.

python benchmarks/startup.py --rounds 20
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
from pathlib import Path

from measure import in_turns, machine, table

from convsurgeon.header import lay_out, pack


def write(path: Path, tensors: int) -> None:
    """Write a file with that many empty tensors."""
    names = ((f"layers.{i}.mlp.weight", "F32", (0, 4096)) for i in range(tensors))
    path.write_bytes(lay_out(pack(names)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--tensors", type=int, default=100_000, help="of the large file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small.safetensors", Path(folder) / "large.safetensors"
        for path, count in ((small, 1), (large, options.tensors)):
            # In a process of its own: what this one has used counts as its children's peak.
            process = multiprocessing.Process(target=write, args=(path, count))
            process.start()
            process.join()
        tool = [sys.executable, "-m", "convsurgeon"]
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "convsurgeon --help": [*tool, "--help"],
            "scan, 1 tensor": [*tool, "scan", str(small)],
            f"scan, {options.tensors} tensors": [*tool, "scan", str(large)],
        }
        results = in_turns(commands, options.rounds, lambda: None)
    print(machine())
    print(table(results, "python -c pass"))


if __name__ == "__main__":
    main()
