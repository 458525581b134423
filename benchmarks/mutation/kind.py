"""What a kind of damage is, and the subject that it damages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

from mutation.cases import Case
from mutation.content import Content

Parameter = int | str
Parameters = tuple[Parameter, ...]
Files = dict[str, bytes]
"""A file, or the files of a folder, by name."""


@dataclass(frozen=True)
class Subject:
    """A swapped file.

    Attributes:
        case: what it is of.
        before: the original.
        after: what the swap made of it.
    """

    case: Case
    before: Content
    after: Content


Ways = Callable[[Subject, Random], Iterable[Parameters]]
"""Draws the parameters of a few mutants; only the tensors of the subject are looked at."""


@dataclass(frozen=True)
class Kind:
    """One way to damage a file.

    Attributes:
        name: of the kind.
        ways: draws parameters.
        damage: makes the damaged file.
    """

    name: str
    ways: Ways
    damage: Callable[[Subject, Parameters], bytes]
