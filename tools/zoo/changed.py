"""Rows about known architectures in configurations that nobody published.

    python -m tools.zoo.changed OUT.jsonl.xz [--only TEXT]

Every configuration of the tables changes_*.toml is built by its own library, on the meta device
and without weights; the geometry is read from the live modules. The same tables and the same
versions of the libraries give the same bytes.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.zoo import tables
from tools.zoo.changes import BUILDERS, Change, Changed, Fields
from tools.zoo.models import TooLongError, prepare, time_limit
from tools.zoo.rows import row_of

TABLES = ("changes_transformers.toml", "changes_others.toml")
_SECONDS = 300


def changes() -> Iterator[tuple[str, Change]]:
    """Yield each row of the tables with its library; every second one records its defaults too."""
    for name in TABLES:
        table = tomllib.loads((Path(__file__).parent / name).read_text(encoding="utf-8"))
        for source, rows in table.items():
            for count, (base, word, fields) in enumerate(rows):
                yield source, Change(base, word, fields, full=count % 2 == 1)


def title(change: Change) -> str:
    """Return the name of a changed architecture: unique, and it says what was changed."""
    leaves = (f"{path}={value}" for path, value in _leaves(change.fields))
    return f"{change.base}|{','.join(leaves)}"


def _leaves(fields: Fields, prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value, separators=(",", ":"))


def changed_row(source: str, change: Change) -> tables.Row:
    """Build one changed architecture and return its row; raises what the library raises."""
    with time_limit(_SECONDS):
        found = BUILDERS[source](change)
        row = _row(found.model, source, title(change), found)
        stated = _stated(row["convs"], source, found)
    return row | {"base": change.base, "change": change.word, "states_stride": stated}


def _row(model: Any, source: str, name: str, found: Changed) -> tables.Row:
    row = row_of(model, source, name, found.family, found.config)
    del row["tied"]
    for conv in row["convs"]:
        del conv["from"]
    return row


def _stated(convs: list[dict[str, Any]], source: str, found: Changed) -> bool:
    """Tell whether the files show every stride, or the code takes it from the kernel.

    Where the library reads a config.json, it has to build the same convolutions from that alone.
    Elsewhere each convolution whose kernel or stride is not the default has stride == kernel.
    """
    if found.again is not None:
        return bool(_row(found.again(), source, "", found)["convs"] == convs)
    before = {c["module"]: c for c in _row(found.default(), source, "", found)["convs"]}
    both = [(conv, before[conv["module"]]) for conv in convs if conv["module"] in before]
    moved = [c for c, old in both if (c["kernel"], c["stride"]) != (old["kernel"], old["stride"])]
    return all(conv["stride"] == conv["kernel"] for conv in moved)


def main() -> int:
    """Write the file; return 1, and write nothing, where a configuration cannot be built."""
    parser = argparse.ArgumentParser("tools.zoo.changed", description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default="", help="rows whose library or name contains this")
    options = parser.parse_args()
    prepare()
    rows: list[tables.Row] = []
    failed = 0
    for source, change in changes():
        name = f"{source}:{title(change)}"
        if options.only not in name:
            continue
        try:
            rows.append(changed_row(source, change))
        except (Exception, TooLongError) as error:  # noqa: BLE001 - the code of five libraries may raise anything
            failed += 1
            reason = " ".join(str(error).split())[:200]
            sys.stderr.write(f"{name}: {type(error).__name__}: {reason}\n")
    if failed:
        sys.stderr.write(f"{failed} configurations cannot be built\n")
        return 1
    tables.write(options.out, sorted(rows, key=lambda row: (row["source"], row["name"])))
    sys.stderr.write(f"{len(rows)} rows\n")
    return 0


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # open_clip warns of missing weights, which are never wanted
    sys.exit(main())
