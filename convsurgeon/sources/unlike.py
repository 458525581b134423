"""Whether a config asks for the model that an entry of the catalogue was read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from convsurgeon.errors import RefusedError
from convsurgeon.sources.expressions import Lookup


@dataclass(frozen=True, slots=True)
class Unlike:
    """What makes a config one of another model than the one that an entry was read from.

    Attributes:
        what: in words.
        hidden: whether the tensors of the checkpoint may be the same nevertheless.
    """

    what: str
    hidden: bool = False


def unlike(config: Mapping[str, Any], entry: Mapping[str, Any], where: object) -> Unlike | None:
    """Compare the towers that a config asks for with those that an entry was read from.

    A sub-config of another type builds another tower below the same names. Those for text may
    differ, as they do in public models: no tower of text was seen with separate patches.

    Raises:
        RefusedError: CS063 where a sub-config is no object, or its type no text.
    """
    for path, kind in entry.get("types", {}).items():
        text = any(word in path for word in ("text", "llm", "language"))
        if path and "." not in path and not text and (odd := _tower(config, path, kind, where)):
            return odd
    lookup = Lookup(config, entry.get("guards", {}), where)
    for path, default in entry.get("guards", {}).items():
        if lookup.value(path) != default:
            # Another network has other tensors; one with other arguments may have the same.
            return Unlike(f"{path} is not {default!r}", hidden=path.endswith(("kwargs", "args")))
    return _old_section(config, entry, where)


def _tower(config: Mapping[str, Any], path: str, kind: str, where: object) -> Unlike | None:
    section = config.get(path)
    if path == "backbone_config" and not section and (name := config.get("backbone")):
        # As older releases wrote it; the default of today's class is another network.
        return Unlike(f"the backbone is {str(name)[:80]!r}, known with a backbone_config")
    if section is None:
        return None
    if not isinstance(section, dict):
        _wrong(where, path, "an object")
    found = section.get("model_type", kind)
    if not isinstance(found, str):
        _wrong(where, f"{path}.model_type", "a text")
    if section.get("auto_map"):
        return Unlike(f"auto_map replaces the code of {path}", hidden=True)
    if found != kind:
        return Unlike(f"{path} is of model_type {found[:80]!r}, known with {kind!r}")
    return None


def _old_section(
    config: Mapping[str, Any], entry: Mapping[str, Any], where: object
) -> Unlike | None:
    """Say where a section's old name (`vision_config_dict`) and its new one differ in a field."""
    lookup = Lookup(config, entry["defaults"], where)
    for path, default in entry["defaults"].items():
        section, _, name = path.rpartition(".")
        old = config.get(f"{section}_dict") if section else None
        if isinstance(old, dict) and old.get(name, default) != lookup.value(path):
            return Unlike(f"{section}_dict and {section} differ in {name}", hidden=True)
    return None


def _wrong(where: object, name: str, wanted: str) -> NoReturn:
    raise RefusedError("CS063", f"the config cannot be read: {name} is not {wanted}", where=where)
