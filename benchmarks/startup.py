"""Start-up: `convsurgeon --help` and `scan` of a bare file against `python -c pass`.

python benchmarks/startup.py --rounds 20

Bare files are headers without a config.json: what they hold is inferred. The last row is one
command over many checkpoints of the census, printed as text and as JSON.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from measure import in_turns, machine, table
from zoo_files import rows
from zoo_files import write as write_row

from convsurgeon.header import lay_out, pack


def write(path: Path, tensors: int) -> None:
    """Write a file with that many empty tensors."""
    names = ((f"layers.{i}.mlp.weight", "F32", (0, 4096)) for i in range(tensors))
    path.write_bytes(lay_out(pack(names)))


def write_census(folder: Path, files: int) -> None:
    """Write the checkpoint of ViT-B/16, and every so many-th of the census; headers alone."""
    everything = [row for row in rows() if row["tensors"]]
    vit = next(row for row in everything if row["name"] == "vit_base_patch16_224")
    write_row(vit, folder, config=False)
    step = max(1, len(everything) // files)
    for number, row in enumerate(everything[::step][:files]):
        place = folder / "many" / f"{number:04}"
        place.mkdir(parents=True)
        write_row(row, place, config=False)


def _apart(work: Callable[..., None], *arguments: object) -> None:
    # In a process of its own: what this one has used counts as its children's peak.
    process = multiprocessing.Process(target=work, args=arguments)
    process.start()
    process.join()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--files", type=int, default=1000, help="scanned in one command")
    parser.add_argument("--tensors", type=int, default=100_000, help="of the large file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small.safetensors", Path(folder) / "large.safetensors"
        for path, count in ((small, 1), (large, options.tensors)):
            _apart(write, path, count)
        _apart(write_census, Path(folder), options.files)
        tool = [sys.executable, "-m", "convsurgeon"]
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "convsurgeon --help": [*tool, "--help"],
            "scan, 1 tensor": [*tool, "scan", str(small)],
            "scan, bare ViT-B/16": [*tool, "scan", f"{folder}/model.safetensors"],
            f"scan, {options.tensors} tensors": [*tool, "scan", str(large)],
        }
        results = in_turns(commands, options.rounds, lambda: None)
        many = [*tool, "scan", "-r", f"{folder}/many"]
        several = {f"scan, {options.files} files": many}
        several[f"scan --json, {options.files} files"] = [*many, "--json"]
        results |= in_turns(several, max(1, options.rounds // 10), lambda: None)
    print(machine())
    print(table(results, "python -c pass"))


if __name__ == "__main__":
    main()
