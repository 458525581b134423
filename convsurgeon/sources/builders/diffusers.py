"""`diffusers:PATH`: a model's folder, or its `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from convsurgeon.errors import ModelError
from convsurgeon.sources.builders.config_path import config_at
from convsurgeon.sources.builders.guard import (
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
    refuse_code(config, source)
    torch = need_torch()
    diffusers = library("diffusers", _library, source)
    name = config.get("_class_name")
    with sealed():
        found = guarded(lambda: _class(diffusers, str(name)), source)
        if found is None:
            text = f"_class_name {str(name)[:80]!r} is no model of diffusers"
            raise ModelError("CS062", text, where=source, hint="write --model file.py:function")
        fields = {k: v for k, v in config.items() if k not in {"dtype", "torch_dtype"}}
        hint = "see whether the installed diffusers is old for this config"
        model = without_memory(torch, partial(found.from_config, fields), source, hint)
    return ModelSpeaker.of(model, source)


def _class(diffusers: Any, name: str) -> Any:
    found = getattr(diffusers, name, None)
    model = isinstance(found, type) and issubclass(found, diffusers.ModelMixin)
    return found if model else None


def _library() -> Any:
    import diffusers

    return diffusers
