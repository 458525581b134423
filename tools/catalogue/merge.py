"""What several architectures teach about one body -> one record of the catalogue."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from convsurgeon.sources.catalogue.outline import positions
from tools.catalogue.observe import Lesson, Slot, Width

PATCHIFY = '{"stride":"kernel"}'


class Taught(NamedTuple):
    """A lesson and who gave it: the number of the architecture, and its family."""

    architecture: int
    family: str
    lesson: Lesson


def merge(taught: Sequence[Taught], outcome_id: Callable[[str], int]) -> dict[str, Any]:
    """Return the record of one body, as the catalogue keeps it.

    Args:
        taught: at least one; all about bodies of the same digest.
        outcome_id: numbers the distinct outcomes.
    """
    body = taught[0].lesson.body
    elements = sorted({element for t in taught for element in t.lesson.slots})
    slots = []
    for element in elements:
        place = body.place(element)
        told = [(t, slot) for t in taught if (slot := t.lesson.slots.get(element))]
        slots.append([place, *_slot(told, body.place, outcome_id)])
    return {"a": sorted({t.architecture for t in taught}), "s": slots}


def _slot(
    told: list[tuple[Taught, Slot]],
    place: Callable[[str], int | None],
    outcome_id: Callable[[str], int],
) -> list[Any]:
    by_outcome: dict[str, tuple[set[tuple[int, ...]], set[int]]] = {}
    for t, slot in told:
        for outcome, kernel in zip(slot.outcomes, slot.kernels, strict=True):
            kernels, who = by_outcome.setdefault(outcome, (set(), set()))
            kernels.add(kernel)
            who.add(t.architecture)
    outcomes = [
        [outcome_id(outcome), sorted(kernels), sorted(who)]
        for outcome, (kernels, who) in sorted(by_outcome.items())
    ]
    more: dict[str, Any] = {}
    if set(by_outcome) == {PATCHIFY} and _any_kernel(told):
        more["k"] = 1
    if width := _width([slot for _, slot in told], place):
        more["w"] = width
    if any(1 in slot.inputs for _, slot in told):
        more["n"] = 1
    fixed = _fixed([slot for _, slot in told])
    if any(number is not None for number in fixed):
        more["i"] = fixed
    if _same_kernel_twice(outcomes):
        more["p"] = _positions([slot for _, slot in told], outcome_id)
    return [outcomes, more]


def _any_kernel(told: list[tuple[Taught, Slot]]) -> bool:
    """Tell whether the stride was seen to follow the kernel.

    Either the code takes both from one place, or one family was seen with several kernels.
    """
    if any(slot.follows for _, slot in told):
        return True
    seen: dict[str, set[tuple[int, ...]]] = {}
    for t, slot in told:
        seen.setdefault(t.family, set()).update(slot.kernels)
    return any(len(kernels) > 1 for kernels in seen.values())


def _width(slots: list[Slot], place: Callable[[str], int | None]) -> list[int] | None:
    common = frozenset.intersection(*(slot.widths for slot in slots))
    known: list[Width] = [w for w in common if place(w[0]) is not None]
    if not known:
        return None
    element, axis = min(known)
    at = place(element)
    return None if at is None else [at, axis]


def _fixed(slots: list[Slot]) -> list[int | None]:
    places = zip(*(index for slot in slots for index in slot.indices), strict=True)
    return [numbers.pop() if len(numbers) == 1 else None for numbers in map(set, places)]


def _same_kernel_twice(outcomes: list[list[Any]]) -> bool:
    kernels = [kernel for _, some, _ in outcomes for kernel in some]
    return len(kernels) > len(set(kernels))


def _positions(slots: list[Slot], outcome_id: Callable[[str], int]) -> dict[str, list[int]]:
    """Return, for each set of block numbers, the outcome at each; those that conflict are left."""
    found: dict[str, set[tuple[int, ...]]] = {}
    for slot in slots:
        pairs = sorted(zip(slot.indices, map(outcome_id, slot.outcomes), strict=True))
        if len(dict(pairs)) == len(set(pairs)):  # else one place has two outcomes
            told = tuple(outcome for _, outcome in pairs)
            found.setdefault(positions(slot.indices), set()).add(told)
    return {key: list(told.pop()) for key, told in sorted(found.items()) if len(told) == 1}


def canonical(value: object) -> str:
    """Return JSON text that is the same for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
