"""The project's configuration: `convsurgeon.toml`, or `[tool.convsurgeon]` in pyproject.toml."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, Self

from convsurgeon.errors import UsageError
from convsurgeon.sources.options import GeometryOption, InputShapeOption
from convsurgeon.sources.small_file import content_of

OWN, SHARED = "convsurgeon.toml", "pyproject.toml"
TABLE = "convsurgeon"
_ROOTS = (".git", ".hg")
_MAX_BYTES = 1_000_000
_CODE = "CS092"
_HINT = "correct it, or leave it out with --no-config"


@dataclass(frozen=True, slots=True)
class Settings:
    """What one configuration file sets.

    Attributes:
        path: the file, from the working folder.
        found: whether a search found it; otherwise the user named it.
        geometries: its statements under `geometry`.
        inputs: its statements under `input-shape`.
        values: its other keys, as the options of the same name spell them.
    """

    path: str
    found: bool
    geometries: tuple[GeometryOption, ...] = ()
    inputs: tuple[InputShapeOption, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, table: Mapping[str, Any], path: Path, *, found: bool) -> Self:
        """Check a table.

        Args:
            table: as TOML gave it.
            path: of the file that holds it.
            found: see the attribute.

        Raises:
            UsageError: CS092, naming the file and the key; CS090 for a malformed statement.
        """
        values = {key: _checked(key, value, path) for key, value in table.items()}
        texts = values.pop("geometry", ()), values.pop("input-shape", ())
        # The name alone: it enters recipes, and a run from another folder gives the same bytes.
        geometries = (GeometryOption.parse(text, f"{path.name}: geometry") for text in texts[0])
        inputs = (InputShapeOption.parse(text, f"{path.name}: input-shape") for text in texts[1])
        return cls(os.path.relpath(path), found, tuple(geometries), tuple(inputs), values)

    def for_options(self, names: Collection[str]) -> Self:
        """Return the settings less the `values` of which a command has no option.

        Args:
            names: of the command's options, with underscores.
        """
        known = {key: value for key, value in self.values.items() if key.replace("-", "_") in names}
        return replace(self, values=known)

    @property
    def note(self) -> str:
        """What a report says about the file."""
        stated = [("geometry", self.geometries), ("input-shape", self.inputs)]
        keys = [*(key for key, options in stated if options), *self.values]
        return f"configuration: {self.path} ({', '.join(sorted(keys)) or 'nothing is set'})"


def settings_of(path: Path) -> Settings:
    """Read a configuration file that the user names.

    Raises:
        UsageError: CS092 where it cannot be read, or sets something that is not known.
    """
    table = _table(path)
    if table is None:
        _stop(path, f"it has no table [tool.{TABLE}]")
    return Settings.of(table, path, found=False)


def find_settings(folder: Path) -> Settings | None:
    """Search a folder and those above it, up to the root of a repository or of the disk.

    The first file counts, alone. In one folder `convsurgeon.toml` goes before pyproject.toml, which
    counts only if it has the table.

    Raises:
        UsageError: CS092, see `settings_of`.
    """
    for place in (folder, *folder.parents):
        for name in (OWN, SHARED):
            path = place / name
            # Unlike Path.is_file, it raises for no folder that this user may not enter.
            table = _table(path) if os.path.isfile(path) else None  # noqa: PTH113
            if table is not None:
                return Settings.of(table, path, found=True)
        if any(os.path.exists(place / mark) for mark in _ROOTS):  # noqa: PTH110
            break
    return None


def _table(path: Path) -> Mapping[str, Any] | None:
    """Return the table of a file; None where it is a pyproject.toml without one."""
    content = content_of(path, _MAX_BYTES, partial(_stop, path))
    if path.name == SHARED and TABLE.encode() not in content:
        return None  # the usual case, and reading TOML takes longer than all of the search
    import tomllib

    try:
        data = tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        _stop(path, f"byte {error.start} is not UTF-8")
    except (ValueError, RecursionError) as error:
        _stop(path, f"it is no TOML: {error}")
    if path.name != SHARED:
        return data
    tool = data.get("tool", {})
    table = tool.get(TABLE) if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        _stop(path, f"tool.{TABLE} is no table")
    return table


def _checked(key: str, value: object, path: Path) -> Any:
    if key not in _KEYS:
        _stop(path, f"the key {key!r} is not known; known are {', '.join(_KEYS)}")
    wanted, read = _KEYS[key]
    found = read(value)
    if found is None:
        _stop(path, f"{key} is not {wanted}")
    return found


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _texts(value: object) -> tuple[str, ...] | None:
    all_texts = isinstance(value, list) and all(isinstance(text, str) for text in value)
    return tuple(value) if isinstance(value, list) and all_texts else None


def _statements(value: object) -> tuple[str, ...] | None:
    if not isinstance(value, dict):
        return _texts(value)
    if not all(isinstance(text, str) and "=" not in text for text in value.values()):
        return None
    return tuple(f"{pattern}={text}" for pattern, text in value.items())


def _truth(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


_STATEMENTS = ("a list of texts 'GLOB=...', or a table of texts", _statements)
_ONE = ("a text", _text)
_MANY = ("a list of texts", _texts)
_KEYS: dict[str, tuple[str, Callable[[object], Any]]] = {
    "geometry": _STATEMENTS,
    "input-shape": _STATEMENTS,
    "model": _ONE,
    "evidence": _ONE,
    "require-evidence": _ONE,
    "layer": _MANY,
    "exclude": _MANY,
    "layout": _ONE,
    "child-keys": ("true or false", _truth),
    "max-header-bytes": ("a whole number", _number),
}


def _stop(path: Path, why: str) -> NoReturn:
    text = f"the configuration cannot be used: {why}"
    raise UsageError(_CODE, text, where=os.path.relpath(path), hint=_HINT)
