"""One row of the zoo -> what its name in a config says about each of its layers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from convsurgeon.sources.catalogue.folding import fold
from tools.catalogue.merge import canonical
from tools.catalogue.observe import CONV_RANKS, outcome, outline_of

Json = dict[str, Any]


def facts_of(row: Mapping[str, Any], *, constant: bool) -> Json:
    """Return the entry of one class or architecture.

    Args:
        row: of the zoo.
        constant: take the geometry of the built model (for names that stand for one model, as
            timm's do); otherwise only what provenance shows to come from fields or from constants.
    """
    slots: dict[str, dict[tuple[int, ...], Json]] = {}
    outline = outline_of(row)
    convs = {conv["key"]: conv for conv in row["convs"]}
    for key, element in outline.of_key.items():
        conv = convs.get(key)
        if conv is None and not (_rank(element) in CONV_RANKS and key.endswith(".weight")):
            continue
        fact = _fact(conv, outline.by_key[key].shape, constant=constant)
        # Under the name on disk, and under that of the live model, where a library renames.
        for name in {key, f"{conv['module']}.weight"} if conv else {key}:
            folded, index = fold(name)
            slots.setdefault(folded, {})[index] = fact
    found = {name: list(_rows(list(members.items()))) for name, members in sorted(slots.items())}
    used = sorted({f for rows in found.values() for r in rows for f in _fields(r)})
    entry: Json = {"slots": found, "defaults": {f: row["defaults"][f] for f in used}}
    if row.get("model_types"):
        entry["types"] = row["model_types"]
    return entry


def _rank(element: str) -> int:
    return int(element.rpartition(" ")[2])


def _fact(conv: Mapping[str, Any] | None, shape: tuple[int, ...], *, constant: bool) -> Json:
    import json

    said: Json = json.loads(outcome(conv, shape[0]))
    if conv is None or not {"stride"} & said.keys():
        return {"o": said}
    if constant:
        return {"k": list(shape[2:]), "o": said}
    source = conv.get("from")
    if source and source["kernel"] == [1] * len(source["kernel"]):
        source = {**source, "dilation": source["kernel"]}  # it means nothing there
    if not source or _names(source) & {"**"}:
        return {}
    if "f" in _names(source) and not conv.get("probed"):
        return {}  # what a number follows from was never tried with another number
    padding = source["padding"]
    fact = {"k": source["kernel"], "s": source["stride"]}
    fact["p"] = [0] * len(source["kernel"]) if isinstance(padding, str) else padding
    fact |= {"d": source["dilation"], "t": conv["transposed"]}
    fact["g"] = "out" if 1 < conv["groups"] == shape[0] else source["groups"]
    if conv.get("switches"):
        fact["if"] = conv["switches"]
    return fact


def _rows(members: list[tuple[tuple[int, ...], Json]]) -> Iterator[Json]:
    """Return the facts of one element's tensors: one row if all are alike, else one per kind.

    None at all where provenance was lost: that the layer is there is still worth knowing.
    """
    index, fact = members[0]
    alone = len(members) == 1 and bool(index) and "i" in _names(fact)
    for place in () if alone else (None, *range(len(index))):
        for offset in (0, 1, -1) if place is not None else (0,):
            told = {canonical(_numbered(f, i, place, offset)) for i, f in members}
            if len(told) == 1:
                if fact:
                    yield _numbered(fact, index, place, offset)
                return
    kinds: dict[str, tuple[Json, list[list[int]]]] = {}
    for index, fact in members:
        kinds.setdefault(canonical(fact), (fact, []))[1].append(list(index))
    for fact, indices in kinds.values():
        if fact:
            yield {**_numbered(fact, (), None, 0), "i": sorted(indices)}


def _numbered(value: Any, index: tuple[int, ...], place: int | None, offset: int) -> Any:
    """Replace the numbers of a list's element by the places of the block numbers they equal."""
    if isinstance(value, list):
        return [_numbered(v, index, place, offset) for v in value]
    if not isinstance(value, dict):
        return value
    if "i" in value and "f" in value:
        return {"f": value["f"], "i": list(_places(value["i"], index, place, offset))}
    return {k: _numbered(v, index, place, offset) for k, v in value.items()}


def _places(
    numbers: int | list[int], index: tuple[int, ...], place: int | None, offset: int
) -> Iterator[int | list[int]]:
    follows = place is not None
    for level, number in enumerate([numbers] if isinstance(numbers, int) else numbers):
        at = (place or 0) + level
        shift = offset if level == 0 else 0
        follows = follows and at < len(index) and number == index[at] + shift
        yield [at, shift] if follows else number


def _names(value: Any) -> set[str]:
    """Return every key and operator of nested expressions."""
    if isinstance(value, list):
        return {name for part in value for name in _names(part)}
    if not isinstance(value, dict):
        return set()
    inner = {name for part in value.values() for name in _names(part)}
    return inner | value.keys() | ({value["op"]} if "op" in value else set())


def _fields(value: Any) -> Iterator[str]:
    if isinstance(value, list):
        for part in value:
            yield from _fields(part)
    elif isinstance(value, dict):
        if "f" in value:
            yield re.sub(r"\[[0-9]+\]$", "", value["f"])
        for part in value.values():
            yield from _fields(part)
