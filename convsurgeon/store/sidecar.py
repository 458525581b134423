"""The recipe beside a file: `FILE.convsurgeon.json`.

A header that keeps its length has seldom room for a recipe. The sidecar names the file that it
belongs to by the digest of its header and by its size, and comes from a disk like every other file:
each field is checked before anyone acts on it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from convsurgeon.bounded_json import object_of
from convsurgeon.errors import RecipeError, UnreadableError
from convsurgeon.header import Header
from convsurgeon.limits import DEFAULT_MAX_HEADER
from convsurgeon.plan import METADATA_KEY, Recipe, recipe_of
from convsurgeon.store.opening import is_there, itself, opened
from convsurgeon.store.safetensors_file import SafetensorsFile

SUFFIX = ".convsurgeon.json"
SCHEMA = "convsurgeon.sidecar/1"


def sidecar_of(path: Path) -> Path:
    """Return where the sidecar of a file lies, if it has one."""
    return path.with_name(f"{path.name}{SUFFIX}")


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What a sidecar says.

    Attributes:
        header_sha256: of the length and the header of its file.
        size: of its file, in bytes.
        recipe: what was done to its file.
    """

    header_sha256: str
    size: int
    recipe: Recipe

    @classmethod
    def for_file(cls, prefix: bytes, size: int, recipe: Recipe) -> Self:
        """Make the sidecar of a file whose length and header are `prefix`."""
        return cls(hashlib.sha256(prefix).hexdigest(), size, recipe)

    def belongs_to(self, prefix: bytes, size: int) -> bool:
        """Tell whether it is about a file of this size that begins so."""
        return self.size == size and self.header_sha256 == hashlib.sha256(prefix).hexdigest()

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        content = {
            "schema": SCHEMA,
            "file": {"header_sha256": self.header_sha256, "size": self.size},
            "recipe": json.loads(self.recipe.to_text()),
        }
        return json.dumps(content, ensure_ascii=False).encode() + b"\n"

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Read what `to_bytes` wrote.

        Raises:
            RecipeError: CS076 where it is anything else.
        """
        try:
            return cls(*_parsed(text))
        except (ValueError, RecipeError) as error:
            raise RecipeError("CS076", f"the sidecar is damaged: {error}") from None


def _parsed(text: bytes) -> tuple[str, int, Recipe]:
    content = object_of(text)
    _check_fields(content, {"schema": str, "file": dict, "recipe": dict})
    if content["schema"] != SCHEMA:
        raise ValueError(f"its schema is not {SCHEMA}")
    file = content["file"]
    _check_fields(file, {"header_sha256": str, "size": int})
    if not re.fullmatch(r"[0-9a-f]{64}", file["header_sha256"]):
        raise ValueError("header_sha256 is no digest")
    recipe = Recipe.from_text(json.dumps(content["recipe"], ensure_ascii=False))
    return file["header_sha256"], file["size"], recipe


def _check_fields(content: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    if content.keys() != kinds.keys():
        raise ValueError(f"{', '.join(kinds)} are expected, and nothing else")
    for name, kind in kinds.items():
        if type(content[name]) is not kind:
            raise ValueError(f"{name} is no {kind.__name__}")


def with_sidecar(
    file: SafetensorsFile, limit: int = DEFAULT_MAX_HEADER, *, due: bool = False
) -> SafetensorsFile:
    """Return a file with the recipe of its sidecar, if it has one, among the metadata.

    Looked for beside the name by which the file is reached, then beside the file that a link leads
    to: a cache of links has both.

    Args:
        file: as `read_alone` returns it.
        limit: largest sidecar to accept, in bytes.
        due: whether it has one, for it was just written: not to find it is then an error of the
            system, and says nothing about the file.

    Raises:
        RecipeError: CS076 where the sidecar is damaged or about another file.
        UnreadableError: CS037 where it cannot be read.
    """
    beside = (sidecar_of(p) for p in dict.fromkeys((file.path, itself(file.path))))
    place = next((path for path in beside if is_there(path)), None)
    if place is None:
        if due:
            message = "cannot be read: it was just written, and is not there"
            hint = "check the disk, and that no other program removes it"
            raise UnreadableError("CS037", message, where=sidecar_of(file.path), hint=hint)
        return file
    sidecar = read_sidecar(place, limit)
    with file.reader() as reader:
        prefix = reader.prefix()
    if not sidecar.belongs_to(prefix, file.size):
        message = f"it is about another file than {file.path.name}: header or size differ"
        hint = "put it beside its own file; remove it if that file is gone"
        raise RecipeError("CS076", message, where=place, hint=hint)
    own = recipe_of(file.header)
    if own not in (None, sidecar.recipe):
        message = f"{file.path.name} holds another recipe in its header"
        raise RecipeError("CS076", message, where=place, hint="remove the one that is out of date")
    return replace(file, header=with_recipe(file.header, sidecar.recipe), sidecar=place)


def read_sidecar(place: Path, limit: int = DEFAULT_MAX_HEADER) -> Sidecar:
    """Read and check a sidecar, wherever its file is.

    Raises:
        RecipeError: CS076 where it is damaged.
        UnreadableError: CS037 where it cannot be read.
    """
    try:
        return Sidecar.parse(sidecar_bytes(place, limit))
    except RecipeError as error:
        error.hint = "remove it, or put the right one there; without it there is no undo"
        raise error.at(place) from None


def sidecar_bytes(place: Path, limit: int = DEFAULT_MAX_HEADER) -> bytes:
    """Return the bytes of a sidecar.

    Raises:
        RecipeError: CS076 where there are more than `limit`.
        UnreadableError: CS037 where it cannot be read.
    """
    with opened(place) as fd, open(fd, "rb", closefd=False) as file:
        text = file.read(limit + 1)
    if len(text) > limit:
        raise RecipeError("CS076", f"the sidecar has more than {limit} bytes", where=place)
    return text


def with_recipe(header: Header, recipe: Recipe) -> Header:
    """Return a header with a recipe among its metadata, in the place of any other."""
    others = [(k, v) for k, v in header.metadata or () if k != METADATA_KEY]
    return replace(header, metadata=(*others, (METADATA_KEY, recipe.to_text())))
