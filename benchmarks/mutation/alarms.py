"""True swaps in geometries of every kind, and identical files: no proof may call one different."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import convsurgeon as cs
from mutation.cases import ROOMY, Case, case
from mutation.judge import prepare


@dataclass(frozen=True)
class Sound:
    """One true swap, and which comparisons call it different.

    Attributes:
        of: its case.
        called_different: by name; empty where all is well.
    """

    of: Case
    called_different: tuple[str, ...]


def sound(work: Path, numbers: Iterable[int], seed: int) -> Iterator[Sound]:
    """Swap each case and compare what is equal.

    Args:
        work: an empty folder.
        numbers: of the cases.
        seed: of all that is random.
    """
    for number in numbers:
        of = case(number, seed, ROOMY)
        prepared = prepare(work, of)
        one, other = prepared.before, prepared.after
        verdicts = {
            "a true swap": cs.verify(one, other),
            "a true swap against its digests": cs.verify(other),
            "the original against itself": cs.verify(one, one),
            "the swapped file against itself": cs.verify(other, other),
        }
        yield Sound(of, tuple(name for name, v in verdicts.items() if not v.equivalent))
