"""The second and third pass over rows that were built: probes and switches."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tools.zoo import tables
from tools.zoo.build import library
from tools.zoo.probe import probed, signature, tail, wanted
from tools.zoo.switches import switched, with_switches
from tools.zoo.tables import Row

Switches = dict[str, dict[str, Any]]
"""A convolution -> the fields that switch it, with their defaults."""


def probe(rows: list[Row], out: Path, resume: bool) -> Iterator[str]:
    """Append every row to `out`, probed if it has something to probe; yield what to tell.

    All rows must be of one library. Switches are looked for once in rows that are alike.
    """
    candidates = {each.name: each for each in library(rows[0]["source"]).candidates}
    if not resume:
        out.unlink(missing_ok=True)
    done = {row["name"] for row in tables.read(out)} if out.exists() else set()
    seen: dict[str, Switches] = {}
    start = time.monotonic()
    for count, row in enumerate(rows, 1):
        name = row["name"]
        if name in done:
            continue
        candidate = candidates.get(name)
        if candidate is None or not wanted(row) or not row["model_types"]:
            tables.append(out, row)
            continue
        made = probed(row, candidate)
        if signature(row) not in seen:
            seen[signature(row)] = by_origin(row, switched(made, candidate))
        made = with_switches(made, spread(row, seen[signature(row)]))
        tables.append(out, made)
        yield f"{time.monotonic() - start:.0f} s, {count} of {len(rows)}: {told(made)}"


def _key(conv: Mapping[str, Any]) -> str:
    return json.dumps([tail(conv["module"]), conv["from"]], sort_keys=True)


def by_origin(row: Row, found: Switches) -> Switches:
    """Return the switches of a row's convolutions for all that have the same origin."""
    grouped: Switches = {}
    for conv in row["convs"]:
        if conv["module"] in found:
            grouped.setdefault(_key(conv), {}).update(found[conv["module"]])
    return grouped


def spread(row: Row, grouped: Switches) -> Switches:
    """Return by module what `by_origin` found in a row that is alike; rather too much than less."""
    return {c["module"]: grouped[_key(c)] for c in row["convs"] if _key(c) in grouped}


def told(row: Row) -> str:
    """Return the outcome for one row in a line."""
    fields = {path for conv in row["convs"] for path in conv.get("switches", {})}
    switches = f"; switches {', '.join(sorted(fields))}" if fields else ""
    return f"{row['name']}: {row['probe']} {', '.join(row['probe_differs'][:3])}{switches}"
