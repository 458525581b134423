"""`torchvision:NAME`."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any

from convsurgeon.errors import ModelError
from convsurgeon.sources.builders.guard import library, sealed, without_memory
from convsurgeon.sources.model import ModelSpeaker, need_torch


def by_name(name: str) -> ModelSpeaker:
    """Build `torchvision:NAME`, one of `torchvision.models.list_models()`, without weights.

    Raises:
        ModelError: CS052 without torch; CS062 where the name is unknown or torchvision missing.
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
        model = without_memory(torch, partial(make, **dict.fromkeys(weights)), spec)
    return ModelSpeaker.of(model, spec)


def _library() -> Any:
    import torchvision.models

    return torchvision.models
