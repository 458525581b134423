"""The models of open_clip: every configuration that it ships."""

from __future__ import annotations

import copy
import dataclasses
import logging
from functools import partial
from importlib import import_module
from typing import Any

from tools.zoo.models import Built, Candidate, Changes, Library, made
from tools.zoo.provenance import tagged

_QUIET = {"pretrained_image": False, "pretrained_text": False, "load_weights": False}


def library() -> Library:
    """Return every shipped configuration; those with a text tower of a hub cannot be built."""
    logging.disable(logging.WARNING)
    found = import_module("open_clip")
    candidates = [Candidate(n, partial(_build, n), "open_clip") for n in found.list_models()]
    return Library("open_clip", found.__version__, tuple(candidates))


def _build(name: str, changes: Changes) -> Built:
    factory = import_module("open_clip.factory")
    shipped = factory._MODEL_CONFIGS  # noqa: SLF001 - the only way to build from a tagged one
    config = shipped[name]
    values = _values(config) | changes
    try:
        shipped[name] = _tagged(config, values)
        model = made(partial(factory.create_model, name, device="meta", **_QUIET))
    finally:
        shipped[name] = config
    written = {key: value for key, value in config.items() if key != "custom_text"}
    return Built(model, written, values, {"": name})


def _values(config: dict[str, Any]) -> dict[str, Any]:
    """Return every field by its path, those of the vision tower with their defaults."""
    tower = import_module("open_clip.model").CLIPVisionCfg
    complete = {field.name: field.default for field in dataclasses.fields(tower)}
    found = {f"vision_cfg.{key}": value for key, value in complete.items()}
    for key, value in config.items():
        nested = value.items() if isinstance(value, dict) else ()
        found |= {f"{key}.{name}": each for name, each in nested} or {key: value}
    return found


def _tagged(config: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    made = copy.deepcopy(config)
    for path, value in values.items():
        section, _, name = path.rpartition(".")
        holder = made[section] if section else made
        if name in holder or isinstance(value, int | tuple):
            holder[name] = tagged(value, path)
    return made
