"""The words in which the table of facts is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Field:
    """A field that holds one int, or one per axis; required where it has no default.

    `save_pretrained` may leave out what equals the class's default, so the default stands here.
    """

    name: str
    default: int | tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Staged:
    """A field that holds one int per stage; the key's group `stage` says which."""

    name: str
    default: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Half:
    """Half of another value, rounded down."""

    of: Staged


@dataclass(frozen=True, slots=True)
class Spatial:
    """A field that holds the channels and sizes in front of a Linear: the sizes."""

    name: str


Value: TypeAlias = int | Field | Staged | Half | Spatial | tuple[Field, ...]
"""Where a number per axis comes from. A tuple has one field per axis, each a single int."""


@dataclass(frozen=True, slots=True)
class Section:
    """The nested object that holds a fact's fields.

    Attributes:
        names: where it may stand; the first that is there counts, whole.
        model_type: what it must call itself, if it says.
        optional: whether the class fills in its defaults where it is missing.
    """

    names: tuple[str, ...]
    model_type: str
    optional: bool


@dataclass(frozen=True, slots=True)
class Switch:
    """A true-or-false field that a fact depends on."""

    name: str
    default: bool
    wanted: bool


@dataclass(frozen=True, slots=True)
class Fact:
    """One row: the layers that a pattern names, and where their geometry comes from.

    Attributes:
        pattern: regular expression of the whole module name, without wrapper prefixes.
        form: what the weight is stored for.
        kernel: None where a Linear's input is unknown.
        stride: of the windows.
        padding: of every side.
        depthwise: whether there are as many groups as outputs.
        section: None for fields at the top.
        switch: the fact holds only where the field has this value.
        classes: the fact holds only for these; empty means all of the family's.
    """

    pattern: str
    form: str
    kernel: Value | None
    stride: Value = 1
    padding: Value = 0
    depthwise: bool = False
    section: Section | None = None
    switch: Switch | None = None
    classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Family:
    """A model type: the classes that its facts were checked for, and the facts."""

    classes: tuple[str, ...]
    facts: tuple[Fact, ...]
