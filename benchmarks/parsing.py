"""Memory and time of reading what was written to use up both: headers, and other JSON.

python benchmarks/parsing.py --megabytes 25

The inputs are those of `tests/test_header_hostile.py` and `tests/test_bounded_json.py`, each in
an interpreter of its own. Memory is the peak above what the interpreter had before.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from measure import machine

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.test_bounded_json import BOMBS, READ
from tests.test_header_hostile import HEADER, SHAPES, peak_and_seconds


def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=25, help="of each input")
    size = int(parser.parse_args().megabytes * 1e6)
    print(machine())
    print("\n| read as | input | peak memory | of its bytes | CPU time |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        kinds = ("header", HEADER, SHAPES), ("other JSON", READ, BOMBS)
        for kind, imported, made in kinds:
            for name, make in made.items():
                text = make(size)
                peak, seconds = peak_and_seconds(text, Path(folder), imported)
                times = f"{peak / len(text):.1f}x"
                print(f"| {kind} | {name} | {peak / 1e6:.0f} MB | {times} | {seconds:.2f} s |")


if __name__ == "__main__":
    main()
