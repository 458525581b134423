"""`torchvision:NAME`."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

from convsurgeon.errors import ModelError
from convsurgeon.sources.builders.guard import Way, library, sealed, without_memory
from convsurgeon.sources.model import ModelSpeaker, need_torch


def by_name(name: str) -> ModelSpeaker:
    """Build `torchvision:NAME`, one of `torchvision.models.list_models()`, without weights.

    Raises:
        ModelError: CS052 without torch; CS062 where the name is unknown or torchvision missing.
    """
    return ModelSpeaker.of(model_named(name, without_memory), f"torchvision:{name}")


def model_named(name: str, way: Way) -> Any:
    """Return the nn.Module of `torchvision:NAME`, without trained weights.

    Raises:
        ModelError: CS052 or CS062, see `by_name`.
    """
    spec = f"torchvision:{name}"
    torch = need_torch()
    models = library("torchvision", _library, spec)
    if name not in models.list_models():
        hint = "torchvision.models.list_models() lists the names"
        raise ModelError("CS062", f"no model {name[:80]!r}", where=spec, hint=hint)
    make = models.get_model_builder(name)
    weights = [p for p in inspect.signature(make).parameters if p.startswith("weights")]
    with sealed():
        return way(torch, partial(make, **dict.fromkeys(weights)), spec)


def _library() -> Any:
    import torchvision.models

    return torchvision.models
