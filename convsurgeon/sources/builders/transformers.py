"""`transformers:PATH`: a model's folder, or its `config.json`.

Read in transformers 5.23: `PreTrainedModel.from_pretrained` builds on the meta device as well, a
class takes its part of a larger config (`PreTrainedConfig.from_pretrained`), and on that device
`PreTrainedModel.init_weights` initialises nothing but ties what is tied.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any

from convsurgeon.errors import ModelError
from convsurgeon.sources.builders.config_path import config_at, laid_out
from convsurgeon.sources.builders.guard import (
    Way,
    guarded,
    library,
    refuse_code,
    sealed,
    without_memory,
)
from convsurgeon.sources.model import ModelSpeaker, need_torch
from convsurgeon.sources.names import meanings

_NEWER = "see whether the installed transformers is too old for this config"
KERNELS = {
    "attn_implementation",
    "_attn_implementation",
    "_attn_implementation_internal",
    "_attn_implementation_autoset",
    "experts_implementation",
    "_experts_implementation",
    "_experts_implementation_internal",
}
"""Fields that say with which kernels a model runs; some would load them from a hub."""
_HOW_TO_RUN = KERNELS | {"dtype", "torch_dtype", "quantization_config"}
"""Fields that say how a model runs, not what it is."""


def by_path(path: str) -> ModelSpeaker:
    """Build the model of a local config.

    Raises:
        ModelError: CS052 without torch; CS062 where there is no config, it asks for code of its
            own or names no class of transformers, or transformers is not installed.
        RefusedError: CS063 where the config cannot be read.
    """
    spec = f"transformers:{path}"
    return of_config(config_at(path, spec), spec)


def of_config(config: Mapping[str, Any], source: str) -> ModelSpeaker:
    """Build the class that `architectures` names first; without one, the base model.

    Raises:
        ModelError: CS052 or CS062, see `by_path`.
    """
    model = _model(config, source, without_memory)
    return replace(ModelSpeaker.of(model, source), naming=partial(meanings, model))


def model_at(path: str, way: Way) -> Any:
    """Return the nn.Module of a local config.

    Raises:
        ModelError: CS052 or CS062, see `by_path`.
        RefusedError: CS063 where the config cannot be read.
    """
    spec = f"transformers:{path}"
    return _model(config_at(path, spec), spec, way)


def _model(config: Mapping[str, Any], source: str, way: Way) -> Any:
    refuse_code(config, source)
    torch = need_torch()
    transformers = installed(source)
    with sealed():
        made = guarded(
            partial(_made, transformers, without(config, _HOW_TO_RUN), source), source, _NEWER
        )
        return way(torch, partial(_built, *made), source, _NEWER)


def model_class(transformers: Any, config: Mapping[str, Any], source: str) -> Any:
    """Return the class that `architectures` names first; without one, `AutoModel`.

    Raises:
        ModelError: CS062 where the library has no such class.
    """
    named = config.get("architectures") or [None]
    name = named[0] if isinstance(named, list) else named
    if name is None:
        return transformers.AutoModel
    found = _class(transformers, str(name), str(config.get("model_type", "")))
    if found is None:
        text = f"{str(name)[:80]!r} is no class of the installed transformers"
        hint = "name the code yourself: --model file.py:function"
        raise ModelError("CS062", text, where=source, hint=hint)
    return found


def without(config: Any, fields: Collection[str]) -> Any:
    """Return a config, at every depth, without some fields."""
    if isinstance(config, list):
        return [without(one, fields) for one in config]
    if isinstance(config, dict):
        return {name: without(one, fields) for name, one in config.items() if name not in fields}
    return config


def _made(transformers: Any, config: Mapping[str, Any], source: str) -> tuple[Any, Any]:
    """Return the class and its config."""
    found = model_class(transformers, config, source)
    reader = transformers.AutoConfig if found is transformers.AutoModel else found.config_class
    # The library's own reader knows which part of a config is meant for which class.
    with laid_out(config) as folder:
        return found, reader.from_pretrained(folder, local_files_only=True)


def _class(transformers: Any, name: str, model_type: str) -> Any:
    """Return the library's model class of this very name; None where there is none."""
    places = [transformers]
    if model_type in transformers.CONFIG_MAPPING:
        # Some classes are not exported; they stand in the modelling file of their model type.
        owner = transformers.CONFIG_MAPPING[model_type].__module__
        if owner.startswith("transformers."):
            places.append(import_module(owner.replace(".configuration_", ".modeling_")))
    for place in places:
        found = getattr(place, name, None)
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            return found
    return None


def _built(found: Any, config: Any) -> Any:
    if hasattr(found, "from_config"):
        return found.from_config(config, trust_remote_code=False)
    return found(config)


def installed(source: str) -> Any:
    """Import the library, in silence.

    Raises:
        ModelError: CS062 where it is not installed, or its import fails.
    """
    return library("transformers", _library, source)


def _library() -> Any:
    import transformers

    return transformers
