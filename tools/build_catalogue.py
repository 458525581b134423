"""Build the packaged catalogue of known architectures.

    python tools/build_catalogue.py --work build/zoo           # from the libraries: an hour or two
    python tools/build_catalogue.py --rows build/zoo/rows.jsonl.xz   # from rows built before

The first form builds every architecture of the installed libraries without weights, reads where the
geometry of each convolution comes from, tries other numbers (`python -m tools.zoo`), compares the
rows with the census, and packs what they teach. Versions are pinned in tools/zoo/requirements.txt.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from convsurgeon.sources.catalogue import table  # noqa: E402
from tools.catalogue.compile import entries  # noqa: E402
from tools.zoo import tables  # noqa: E402

CATALOGUE = Path(table.__file__).with_name("catalogue.bin")
CENSUS = ROOT / "tests" / "census" / "census.jsonl.xz"
LIBRARIES = ("transformers", "timm", "diffusers", "open_clip", "torchvision")
PROBED = ("transformers", "diffusers", "open_clip")
"""Libraries whose models are built from a config, which can be changed."""


def rows_of(work: Path) -> Path:
    """Build the rows of every library in a folder, and compare them with the census."""
    work.mkdir(parents=True, exist_ok=True)
    parts = []
    for library in LIBRARIES:
        built = work / f"{library}.jsonl"
        _zoo("build", library, "--resume", "-o", str(built))
        if library in PROBED:
            probed = work / f"{library}.probed.jsonl"
            _zoo("probe", str(built), "--resume", "-o", str(probed))
            built = probed
        parts.append(str(built))
    rows = work / "rows.jsonl.xz"
    _zoo("join", *parts, "-o", str(rows))
    _zoo("check", str(rows), str(CENSUS), may_differ=True)
    return rows


def _zoo(*arguments: str, may_differ: bool = False) -> None:
    command = [sys.executable, "-m", "tools.zoo", *arguments]
    subprocess.run(command, cwd=ROOT, check=not may_differ)


def main() -> None:
    """Build the rows if none are given, and pack them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "zoo")
    parser.add_argument("--rows", type=Path, help="rows that were built before")
    parser.add_argument("-o", "--out", type=Path, default=CATALOGUE)
    options = parser.parse_args()
    rows = options.rows or rows_of(options.work)
    packed = table.pack(entries(tables.read(rows)))
    options.out.write_bytes(packed)
    print(f"{options.out}: {len(packed):,} bytes")


if __name__ == "__main__":
    main()
