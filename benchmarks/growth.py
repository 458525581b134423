"""How the cost of a swap grows: with the size of a file, its tensors, and the shards of a folder.

    python benchmarks/growth.py size --points 0.1 0.5 2     # gigabytes
    python benchmarks/growth.py sparse --points 32          # gigabytes of a hole
    python benchmarks/growth.py tensors --points 100 10000
    python benchmarks/growth.py shards --points 1 10 100    # of one gigabyte in all

Each point is measured as in `copying.py`: commands in turns, medians.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from copying import COPY, GEOMETRY, LOAD, SWAP, TOOL, commands, measured
from made_files import apart, write_model, write_shards, write_tensors
from measure import Runs, in_turns, machine, table

LOADED_UP_TO = 4.0
"""Gigabytes up to which `load_file` and `save_file` are measured: they need a file's memory."""
FOLDER, LINK, COPY_FOLDER = "swap --verify bits", "the same with --link", "cp -r, sync, diff -r"
SCAN, DRY = "scan", "swap --dry-run"
Growth = Iterator[tuple[float, dict[str, Runs]]]


def by_size(place: Path, points: Iterable[float], rounds: int) -> Growth:
    """Measure files of so many gigabytes; large ones in fewer rounds."""
    for gigabytes in points:
        times = max(2, min(rounds, int(12 / gigabytes)))
        if gigabytes <= LOADED_UP_TO:
            yield gigabytes, measured(place, gigabytes, times)
            continue
        yield gigabytes, _unloaded(place, gigabytes, times, sparse=False)


def by_hole(place: Path, points: Iterable[float], _rounds: int) -> Growth:
    """Measure files whose data is a hole of so many gigabytes, once each."""
    for gigabytes in points:
        yield gigabytes, _unloaded(place, gigabytes, 1, sparse=True)


def _unloaded(place: Path, gigabytes: float, rounds: int, *, sparse: bool) -> dict[str, Runs]:
    with tempfile.TemporaryDirectory(dir=place) as folder:
        source, target = Path(folder) / "model.safetensors", Path(folder) / "out.safetensors"
        apart(write_model, source, gigabytes, sparse)
        chosen = {name: c for name, c in commands(source, target).items() if name != LOAD}
        chosen |= {SCAN: [*TOOL, "scan", str(source), *GEOMETRY]} if sparse else {}
        return in_turns(chosen, rounds, lambda: target.unlink(missing_ok=True), warm=False)


def by_tensors(place: Path, points: Iterable[float], rounds: int) -> Growth:
    """Measure files of so many tensors of a kibibyte."""
    for count in points:
        with tempfile.TemporaryDirectory(dir=place) as folder:
            source, target = Path(folder) / "model.safetensors", Path(folder) / "out.safetensors"
            apart(write_tensors, source, int(count))
            made = commands(source, target)
            swap = [*TOOL, "swap", str(source), *GEOMETRY]
            chosen = {
                SCAN: [*TOOL, "scan", str(source), *GEOMETRY],
                DRY: [*swap, "--dry-run"],
                SWAP: made[SWAP],
                COPY: made[COPY],
                LOAD: made[LOAD],
            }
            clear = lambda path=target: path.unlink(missing_ok=True)  # noqa: E731
            yield count, in_turns(chosen, max(2, rounds // 2), clear)


def by_shards(place: Path, points: Iterable[float], rounds: int, gigabytes: float = 1.0) -> Growth:
    """Measure folders of so many shards, of which one holds the layer."""
    for shards in points:
        with tempfile.TemporaryDirectory(dir=place) as folder:
            source, target = Path(folder) / "model", Path(folder) / "out"
            tensors = max(1, int(64 / shards))
            apart(write_shards, source, int(shards), tensors, gigabytes)
            a, b = str(source), str(target)
            swap = [*TOOL, "swap", a, "-o", b, "--verify", "bits", *GEOMETRY]
            chosen = {
                FOLDER: swap,
                LINK: [*swap, "--link"],
                COPY_FOLDER: ["sh", "-c", 'cp -r "$0" "$1" && sync && diff -r "$0" "$1"', a, b],
            }
            clear = lambda path=target: shutil.rmtree(path, ignore_errors=True)  # noqa: E731
            yield shards, in_turns(chosen, max(2, rounds // 2), clear)


KINDS: Mapping[str, Callable[[Path, Iterable[float], int], Growth]] = {
    "size": by_size,
    "sparse": by_hole,
    "tensors": by_tensors,
    "shards": by_shards,
}
POINTS: Mapping[str, tuple[float, ...]] = {
    "size": (0.1, 0.5, 2, 4, 8, 16),
    "sparse": (32,),
    "tensors": (100, 1000, 10_000, 100_000),
    "shards": (1, 10, 100, 1000),
}
BASES: Mapping[str, str] = {"size": COPY, "sparse": COPY, "tensors": COPY, "shards": COPY_FOLDER}
"""What the other commands are compared with."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--points", type=float, nargs="+", help="what is measured; see above")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None, help="where the files are written")
    options = parser.parse_args()
    print(machine())
    points = options.points or POINTS[options.kind]
    for point, results in KINDS[options.kind](options.folder, points, options.rounds):
        print(f"\n{options.kind} {point:g}\n{table(results, BASES[options.kind])}", flush=True)


if __name__ == "__main__":
    main()
