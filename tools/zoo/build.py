"""Build every candidate of a library, one row each; what fails is reported and skipped."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from tools.zoo import tables
from tools.zoo.models import Built, Candidate, Library, TooLongError, prepare, time_limit
from tools.zoo.provenance import fields_of
from tools.zoo.rows import row_of

LIBRARIES = ("transformers", "timm", "diffusers", "open_clip", "torchvision")
_SECONDS = 120


def library(name: str) -> Library:
    """Return a library with its candidates; importing it can take half a minute."""
    prepare()
    found: Library = import_module(f"tools.zoo.of_{name}").library()
    return found


def full_row(built: Built, found: Library, candidate: Candidate) -> tables.Row:
    """Return the row of a candidate with what its expressions need to be evaluated."""
    family = candidate.family or type(built.model).__module__.rpartition(".")[2]
    row = row_of(built.model, found.name, candidate.name, family, built.config)
    used = sorted({path for conv in row["convs"] for path in fields_of(conv["from"])})
    return row | {
        "version": found.version,
        "model_types": built.model_types,
        "defaults": {path: built.values.get(path) for path in used},
    }


def attempt(candidate: Candidate, found: Library, changes: dict[str, Any]) -> tables.Row:
    """Return a candidate's row, or one with only its name and `error`, whatever goes wrong."""
    try:
        with time_limit(_SECONDS):
            return full_row(candidate.build(changes), found, candidate)
    except (Exception, TooLongError) as error:  # noqa: BLE001 - the code of five libraries may raise anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return {"source": found.name, "name": candidate.name, "error": reason}


def build(name: str, out: Path, only: frozenset[str], resume: bool) -> Iterator[str]:
    """Append rows to `out` and yield what is worth telling; with `resume`, only those missing."""
    found = library(name)
    failed = out.with_suffix(".failed.jsonl")
    for path in (out, failed):
        if not resume:
            path.unlink(missing_ok=True)
    done = {row["name"] for path in (out, failed) if path.exists() for row in tables.read(path)}
    start = time.monotonic()
    todo = [c for c in found.candidates if (not only or c.name in only) and c.name not in done]
    yield f"{name} {found.version}: {len(todo)} of {len(found.candidates)} to build"
    for count, candidate in enumerate(todo, 1):
        for row in _rows(candidate, found):
            tables.append(failed if "error" in row else out, row)
            if "error" in row:
                yield f"{row['name']}: {row['error']}"
        if count % 100 == 0:
            yield f"{count} of {len(todo)}, {time.monotonic() - start:.0f} s"


def _rows(candidate: Candidate, found: Library) -> Iterable[tables.Row]:
    row = attempt(candidate, found, {})
    yield row
    if "error" not in row:
        for variant in found.variants(row):
            yield attempt(variant, found, {})
