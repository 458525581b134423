"""Rows of the zoo -> every entry of the packaged catalogue."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tools.catalogue.facts import facts_of
from tools.catalogue.merge import Taught, merge
from tools.catalogue.observe import lessons

_SAMPLES = Path(__file__).with_name("samples.json")
_GUARDED = frozenset(
    ("backbone", "backbone_kwargs", "use_timm_backbone", "architecture", "model_args")
)
"""Fields that choose another network below the same class, or change it."""

Row = Mapping[str, Any]


def entries(rows: Iterable[Row]) -> dict[str, Any]:
    """Return the whole table: bodies, classes, architectures, and where they come from."""
    everything = list(rows)
    names = [f"{row['source']} {row['name']}" for row in everything]
    outcomes: dict[str, int] = {}
    table = dict(_bodies(everything, outcomes))
    table["outcomes"] = [json.loads(text) for text in outcomes]
    table["architectures"] = names
    table["versions"] = {row["source"]: row["version"] for row in everything}
    table |= _named(everything)
    table |= _samples()
    return table


def taught_by(rows: Iterable[Row]) -> dict[str, list[Taught]]:
    """Return every lesson of the rows by the digest of its body.

    A variant (`vit_base_patch16_224|patch_size=8`) teaches only what became of the layers whose
    kernel it changes: that the rest of a network of such patches is built otherwise says nothing
    about the networks that people have.
    """
    found: dict[str, list[Taught]] = {}
    kernels: dict[tuple[str, str, str], frozenset[tuple[int, ...]]] = {}
    for number, row in enumerate(rows):
        family = f"{row['source']}:{row['family']}"
        base, _, variant = row["name"].partition("|")
        for lesson in lessons(row):
            slots = {}
            for element, slot in lesson.slots.items():
                key = (f"{row['source']} {base}", lesson.prefix, element)
                seen = frozenset(slot.kernels)
                if not variant:
                    kernels[key] = seen
                if not variant or kernels.get(key) != seen:
                    slots[element] = slot
            if slots:
                told = Taught(number, family, replace(lesson, slots=slots))
                found.setdefault(lesson.body.digest, []).append(told)
    return found


def _bodies(rows: list[Row], outcomes: dict[str, int]) -> Iterator[tuple[str, Any]]:
    for digest, taught in taught_by(rows).items():
        record = merge(taught, lambda text: outcomes.setdefault(text, len(outcomes)))
        yield f"body:{digest}", record


def _named(rows: Iterable[Row]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for row in rows:
        if "|" in row["name"]:
            continue  # a variant that only shows what its architecture does with another patch
        if row["source"] == "timm":
            table[f"timm:{row['name']}"] = facts_of(row, constant=True)
        elif row["source"] == "diffusers":
            table[f"diffusers:{row['cls']}"] = facts_of(row, constant=False)
        elif row["source"] == "transformers":
            kind = row["config"]["model_type"]
            table[f"transformers:{kind}:{row['cls']}"] = facts_of(row, constant=False) | _guards(
                row
            )
            table.setdefault(f"model_type:{kind}", []).append(row["cls"])
    return table


def _guards(row: Row) -> dict[str, Any]:
    found = dict(_guarded(row["config"], ""))
    return {"guards": found} if found else {}


def _guarded(config: Mapping[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if name in _GUARDED:
            yield path + name, value
        elif name.endswith("config") and isinstance(value, dict):
            yield from _guarded(value, f"{path}{name}.")


def _samples() -> dict[str, Any]:
    table: dict[str, Any] = {}
    for kind, sample in json.loads(_SAMPLES.read_text()).items():
        table[f"model_type:{kind}"] = sample["classes"]
        for name in sample["classes"]:
            table[f"transformers:{kind}:{name}"] = {"slots": sample["slots"], "defaults": {}}
    return table
