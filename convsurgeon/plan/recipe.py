"""The recipe: what was carried out, and what is needed to take it back byte for byte.

JSON in the output's `__metadata__` under `convsurgeon`; every field is checked before it is used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from convsurgeon.bounded_json import object_of
from convsurgeon.errors import RecipeError
from convsurgeon.evidence import Level, Statement
from convsurgeon.geometry import LINEAR, Geometry, conv_form
from convsurgeon.header import Header
from convsurgeon.limits import FORMAT_MAX_HEADER
from convsurgeon.rearrangement import LAYOUTS, Rearrangement, between
from convsurgeon.untrusted import is_file_name

METADATA_KEY = "convsurgeon"
SCHEMA = "convsurgeon.recipe/1"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Step:
    """One weight that was rewritten.

    Attributes:
        key: its name, the same before and after.
        rule: the rule that held.
        layout: order in which the Linear's side is flattened.
        source_form: form before.
        source_shape: shape before.
        target_form: form after.
        target_shape: shape after.
        geometry: of the conv, whichever side it stands on.
        evidence: level and source of the geometry.
        sha256: of the tensor's bytes before the step.
    """

    key: str
    rule: str
    layout: str
    source_form: str
    source_shape: tuple[int, ...]
    target_form: str
    target_shape: tuple[int, ...]
    geometry: Geometry
    evidence: tuple[str, str]
    sha256: str

    @property
    def module(self) -> str:
        """The key without its last component."""
        return self.key.rpartition(".")[0]

    @property
    def arrangement(self) -> Rearrangement:
        """How the elements moved."""
        return between(self.source_shape, self.target_shape, self.layout)

    def statement(self) -> Statement:
        """Return the step as evidence about the weight before it; a record proves no inference."""
        level, source = self.evidence
        weak = level == Level.FINGERPRINT.label
        said = (Level.FINGERPRINT, source) if weak else (Level.RECIPE, f"recipe: {level}, {source}")
        return Statement(*said, self.source_form, self.geometry)

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands under `steps`."""
        return {
            "key": self.key,
            "rule": self.rule,
            "layout": self.layout,
            "from": {"form": self.source_form, "shape": list(self.source_shape)},
            "to": {"form": self.target_form, "shape": list(self.target_shape)},
            "geometry": self.geometry.to_json(),
            "evidence": {"level": self.evidence[0], "source": self.evidence[1]},
            "sha256": self.sha256,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError, KeyError, TypeError: where it is not such an object.
        """
        before, after = _is(data["from"], dict), _is(data["to"], dict)
        step = cls(
            key=_is(data["key"], str),
            rule=_is(data["rule"], str),
            layout=_is(data["layout"], str),
            source_form=_is(before["form"], str),
            source_shape=tuple(_is(d, int) for d in _is(before["shape"], list)),
            target_form=_is(after["form"], str),
            target_shape=tuple(_is(d, int) for d in _is(after["shape"], list)),
            geometry=Geometry.from_json(_is(data["geometry"], dict)),
            evidence=(_is(data["evidence"]["level"], str), _is(data["evidence"]["source"], str)),
            sha256=_digest(data["sha256"]),
        )
        conv = max(step.source_shape, step.target_shape, key=len)
        forms = (_form(step.source_shape), _form(step.target_shape))
        if (step.source_form, step.target_form) != forms:
            raise ValueError(f"step for {step.key!r} names other forms than its shapes have")
        if step.layout not in LAYOUTS or conv[2:] != step.geometry.kernel or min(conv) < 1:
            raise ValueError(f"step for {step.key!r} does not fit together")
        _ = step.arrangement  # raises where the shapes do not hold the same elements
        return step


@dataclass(frozen=True, slots=True)
class Original:
    """What the file was before the first swap.

    Attributes:
        name: its file name.
        header_length: N, bytes of its header with padding.
        header_sha256: of its length and header.
        has_metadata: whether it had a `__metadata__`.
        header: its header, compressed, where laying it out again would not give the same bytes
            (other key order, other white space); None otherwise.
        dropped: what a PyTorch file held beside its tensors.
    """

    name: str
    header_length: int
    header_sha256: str
    has_metadata: bool
    header: str | None = None
    dropped: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands under `original`."""
        return {
            "name": self.name,
            "header_length": self.header_length,
            "header_sha256": self.header_sha256,
            "has_metadata": self.has_metadata,
            "header": self.header,
            "dropped": list(self.dropped),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError, KeyError, TypeError: where it is not such an object.
        """
        name = _is(data["name"], str)
        if not is_file_name(name):
            raise ValueError("the original's name is no file name")
        return cls(
            name=name,
            header_length=_header_length(data["header_length"]),
            header_sha256=_digest(data["header_sha256"]),
            has_metadata=_is(data["has_metadata"], bool),
            header=data["header"] if data["header"] is None else _is(data["header"], str),
            dropped=tuple(_is(d, str) for d in _is(data["dropped"], list)),
        )


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that was done to one file, in order."""

    tool: str
    original: Original
    steps: tuple[Step, ...]

    def to_text(self) -> str:
        """Return the metadata value: compact JSON in a fixed order."""
        content = {
            "schema": SCHEMA,
            "tool": self.tool,
            "original": self.original.to_json(),
            "steps": [step.to_json() for step in self.steps],
        }
        return json.dumps(content, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read a metadata value.

        Raises:
            RecipeError: CS082 where it is damaged or of another version.
        """
        try:
            data = object_of(text.encode("utf-8"))
            _check_schema(data.get("schema"))
            steps = tuple(Step.from_json(_is(s, dict)) for s in _is(data["steps"], list))
            original = Original.from_json(_is(data["original"], dict))
            _check_chain(steps)
            return cls(_is(data["tool"], str), original, steps)
        except (ValueError, KeyError, TypeError) as error:
            raise RecipeError("CS082", f"the recipe in the metadata is damaged: {error}") from None


def recipe_of(header: Header) -> Recipe | None:
    """Return the recipe in a header's metadata; None where there is none.

    Raises:
        RecipeError: CS082 if it is damaged.
    """
    text = header.metadata_map.get(METADATA_KEY)
    return None if text is None else Recipe.from_text(text)


def _is(value: object, kind: type[_T]) -> _T:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{kind.__name__} expected")
    if isinstance(value, str):
        value.encode("utf-8")  # half a surrogate pair could never be written again
    return value


def _check_schema(schema: object) -> None:
    if schema != SCHEMA:
        raise ValueError(f"its schema is not {SCHEMA}")


def _form(shape: tuple[int, ...]) -> str:
    return LINEAR if len(shape) == 2 else conv_form(len(shape) - 2)


def _header_length(value: object) -> int:
    length = _is(value, int)
    if not 0 < length <= FORMAT_MAX_HEADER:
        raise ValueError(f"{length} is no length of a header")
    return length


def _check_chain(steps: tuple[Step, ...]) -> None:
    shapes: dict[str, tuple[int, ...]] = {}
    for step in steps:
        if shapes.setdefault(step.key, step.source_shape) != step.source_shape:
            raise ValueError(f"a step for {step.key!r} does not begin where the last one ended")
        shapes[step.key] = step.target_shape


def _digest(value: object) -> str:
    text = _is(value, str)
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError("a SHA-256 digest is expected")
    return text
