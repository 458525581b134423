"""All kinds of damage, and the mutants of a case."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from mutation import elements, files, records
from mutation.cases import Case, original, swapped
from mutation.kind import Kind, Parameters, Subject

GROUPS: dict[str, tuple[Kind, ...]] = {
    "elements of weights and biases": elements.KINDS,
    "tensors": files.TENSORS,
    "metadata": files.METADATA,
    "the record of the swap": records.KINDS,
    "the file": files.FILES,
    "controls": files.CONTROLS,
}
KINDS: dict[str, Kind] = {kind.name: kind for kinds in GROUPS.values() for kind in kinds}
CONTROLS = frozenset(kind.name for kind in files.CONTROLS)


class Mutant(NamedTuple):
    """One damaged file: everything needed to make it again."""

    case: int
    kind: str
    parameters: Parameters


def mutants(of: Case) -> Iterator[Mutant]:
    """Yield the mutants of a case: the same ones on every machine."""
    subject = Subject(of, original(of), swapped(of))
    for name, kind in KINDS.items():
        for parameters in kind.ways(subject, of.random(name)):
            yield Mutant(of.number, name, parameters)


def damaged(subject: Subject, mutant: Mutant) -> bytes:
    """Return the damaged file."""
    return KINDS[mutant.kind].damage(subject, mutant.parameters)
