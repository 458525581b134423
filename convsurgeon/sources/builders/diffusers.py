"""`diffusers:PATH`: a model's folder, or its `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from convsurgeon.errors import ModelError
from convsurgeon.sources.builders.config_path import config_at
from convsurgeon.sources.builders.guard import (
    Way,
    guarded,
    library,
    refuse_code,
    sealed,
    without_memory,
)
from convsurgeon.sources.model import ModelSpeaker, need_torch


def by_path(path: str) -> ModelSpeaker:
    """Build the model of a local config.

    Raises:
        ModelError: CS052 without torch; CS062 where there is no config, its class is none of
            diffusers' models, or diffusers is not installed.
        RefusedError: CS063 where the config cannot be read.
    """
    spec = f"diffusers:{path}"
    return of_config(config_at(path, spec), spec)


def of_config(config: Mapping[str, Any], source: str) -> ModelSpeaker:
    """Build the class that `_class_name` names, from its fields.

    Raises:
        ModelError: CS052 or CS062, see `by_path`.
    """
    return ModelSpeaker.of(_model(config, source, without_memory), source)


def model_at(path: str, way: Way) -> Any:
    """Return the nn.Module of a local config.

    Raises:
        ModelError: CS052 or CS062, see `by_path`.
        RefusedError: CS063 where the config cannot be read.
    """
    spec = f"diffusers:{path}"
    return _model(config_at(path, spec), spec, way)


def _model(config: Mapping[str, Any], source: str, way: Way) -> Any:
    refuse_code(config, source)
    torch = need_torch()
    diffusers = installed(source)
    with sealed():
        found = model_class(diffusers, config, source)
        fields = {k: v for k, v in config.items() if k not in {"dtype", "torch_dtype"}}
        hint = "see whether the installed diffusers is old for this config"
        return way(torch, partial(found.from_config, fields), source, hint)


def model_class(diffusers: Any, config: Mapping[str, Any], source: str) -> Any:
    """Return the class that `_class_name` names.

    Raises:
        ModelError: CS062 where it is no model of the library.
    """
    name = str(config.get("_class_name"))
    found = guarded(lambda: getattr(diffusers, name, None), source)
    if isinstance(found, type) and issubclass(found, diffusers.ModelMixin):
        return found
    text = f"_class_name {name[:80]!r} is no model of diffusers"
    raise ModelError("CS062", text, where=source, hint="write --model file.py:function")


def installed(source: str) -> Any:
    """Import the library, in silence.

    Raises:
        ModelError: CS062 where it is not installed, or its import fails.
    """
    return library("diffusers", _library, source)


def _library() -> Any:
    import diffusers

    return diffusers
