"""Every budget that belongs to files: measured, the budget, and whether it is met.

    python benchmarks/budgets.py                       # measures everything: some ten minutes
    python benchmarks/budgets.py --only copying size   # measures a part again
    python benchmarks/budgets.py --page                # writes the page from the figures alone

Figures go into docs/benchmarks-files.json, section by section as they are measured, and from there
onto docs/benchmarks-files.md and its plots. The exit code is 1 where a budget is missed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import commands
import copying
import growth
from budget_rows import budgets, text
from files_page import write_page
from measure import Runs, machine

FIGURES = Path(__file__).parent.parent / "docs" / "benchmarks-files.json"
Section = dict[str, Any]


def sections(options: argparse.Namespace) -> Mapping[str, Callable[[], Section]]:
    """Return what measures each section; the larger ones come last."""
    place, rounds, size = options.folder, options.rounds, options.gigabytes
    return {
        "commands": lambda: {
            "tensors": options.tensors,
            "runs": figures(commands.commands(place, options.tensors, rounds)),
        },
        "parsing": lambda: {
            "bytes": options.header_bytes,
            "runs": figures(commands.parsing(place, options.header_bytes, max(1, rounds // 2))),
        },
        "in place": lambda: {
            "gigabytes": size,
            "runs": figures(commands.in_place(place, size, rounds)),
        },
        "copying": lambda: {
            "gigabytes": size,
            "runs": figures(copying.measured(place, size, rounds)),
        },
        **{kind: _growth(kind, options) for kind in ("tensors", "shards", "sparse", "size")},
    }


def _growth(kind: str, options: argparse.Namespace) -> Callable[[], Section]:
    def measured() -> Section:
        points = getattr(options, f"{kind}_points") or growth.POINTS[kind]
        found = growth.KINDS[kind](options.folder, points, options.rounds)
        return {"points": [{"x": x, "runs": figures(results)} for x, results in found]}

    return measured


def figures(results: Mapping[str, Runs]) -> Section:
    """Return runs as JSON."""
    return {
        name: {
            "seconds": [round(seconds, 4) for seconds in runs.seconds],
            "peak_bytes": runs.peak_bytes,
            "written_bytes": runs.written_bytes,
        }
        for name, runs in results.items()
    }


def measure(options: argparse.Namespace, path: Path) -> None:
    """Measure the sections that were asked for, and keep each as soon as it is done."""
    chosen = sections(options)
    for name in options.only or chosen:
        print(f"measuring {name}", flush=True)
        found = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": f"{machine()}{options.note and f'; {options.note}'}",
            **chosen[name](),
        }
        document = json.loads(path.read_text("utf-8")) if path.exists() else {}
        document[name] = found
        path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def parser() -> argparse.ArgumentParser:
    """Return the options; what they leave open is the full measurement."""
    found = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    found.add_argument("--only", nargs="+", help="sections to measure")
    found.add_argument("--page", action="store_true", help="measure nothing, write the page")
    found.add_argument("--json", type=Path, default=FIGURES, help="where the figures are kept")
    found.add_argument("--folder", type=Path, help="where files are written; twice the largest")
    found.add_argument("--rounds", type=int, default=5)
    found.add_argument("--gigabytes", type=float, default=2.0, help="of the file of the ratios")
    found.add_argument("--tensors", type=int, default=100_000, help="of the largest header")
    found.add_argument("--header-bytes", type=int, default=25_000_000, help="of hostile headers")
    found.add_argument("--note", default="", help="what else the page has to say of the machine")
    for kind in growth.KINDS:
        found.add_argument(f"--{kind}-points", type=float, nargs="+", help="of growth.py")
    return found


def main() -> None:
    """Measure, print, write."""
    options = parser().parse_args()
    if shutil.which("cmp") is None:
        sys.exit("cmp is not installed")
    if not options.page:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            options.folder = Path(folder)
            measure(options, options.json)
    document = json.loads(options.json.read_text("utf-8"))
    write_page(document, options.json)
    rows = budgets(document)
    print("\n".join(text(rows)))
    sys.exit(any(row.met is False for row in rows))


if __name__ == "__main__":
    main()
