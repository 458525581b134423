"""The recipe: what was carried out, and what is needed to take it back byte for byte.

JSON in the output's `__metadata__` under `convsurgeon`; every field is checked before it is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from convsurgeon.bounded_json import object_of
from convsurgeon.errors import RecipeError
from convsurgeon.header import Header
from convsurgeon.limits import FORMAT_MAX_HEADER
from convsurgeon.plan.step import Step, check_chains, checked, digest
from convsurgeon.untrusted import is_file_name

METADATA_KEY = "convsurgeon"
SCHEMA = "convsurgeon.recipe/1"


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
        name = checked(data["name"], str)
        if not is_file_name(name):
            raise ValueError("the original's name is no file name")
        return cls(
            name=name,
            header_length=_header_length(data["header_length"]),
            header_sha256=digest(data["header_sha256"]),
            has_metadata=checked(data["has_metadata"], bool),
            header=data["header"] if data["header"] is None else checked(data["header"], str),
            dropped=tuple(checked(d, str) for d in checked(data["dropped"], list)),
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
            steps = tuple(Step.from_json(checked(s, dict)) for s in checked(data["steps"], list))
            original = Original.from_json(checked(data["original"], dict))
            check_chains(steps)
            return cls(checked(data["tool"], str), original, steps)
        except (ValueError, KeyError, TypeError) as error:
            raise RecipeError("CS082", f"the recipe in the metadata is damaged: {error}") from None


def recipe_of(header: Header) -> Recipe | None:
    """Return the recipe in a header's metadata; None where there is none.

    Raises:
        RecipeError: CS082 if it is damaged.
    """
    text = header.metadata_map.get(METADATA_KEY)
    return None if text is None else Recipe.from_text(text)


def _check_schema(schema: object) -> None:
    if schema != SCHEMA:
        raise ValueError(f"its schema is not {SCHEMA}")


def _header_length(value: object) -> int:
    length = checked(value, int)
    if not 0 < length <= FORMAT_MAX_HEADER:
        raise ValueError(f"{length} is no length of a header")
    return length
