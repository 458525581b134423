"""`timm:NAME`, and the `config.json` that timm writes for the hub."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from convsurgeon.errors import ModelError
from convsurgeon.sources.builders.config_path import laid_out
from convsurgeon.sources.builders.guard import (
    Way,
    library,
    refuse_code,
    sealed,
    without_memory,
)
from convsurgeon.sources.model import ModelSpeaker, need_torch

_LIST = "python -c 'import timm; print(timm.list_models())' lists the names"
_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?")


def by_name(name: str) -> ModelSpeaker:
    """Build `timm:NAME`, as the library's `create_model(NAME)` does.

    Args:
        name: plain, with or without the tag of its weights: `vit_base_patch16_224.augreg_in1k`.

    Raises:
        ModelError: CS052 without torch; CS062 where the name is unknown or none of timm's own, or
            timm is not installed.
    """
    return ModelSpeaker.of(model_named(name, without_memory), f"timm:{name}")


def model_named(name: str, way: Way) -> Any:
    """Return the nn.Module of `timm:NAME`.

    Raises:
        ModelError: CS052 or CS062, see `by_name`.
    """
    spec = f"timm:{name}"
    # `hf-hub:` and `local-dir:` names would fetch or open a config that nobody looked at.
    if not _NAME.fullmatch(name):
        text = f"{name[:80]!r} is no plain name of timm's; nothing is downloaded"
        raise ModelError("CS062", text, where=spec, hint=_LIST)
    return _created(name, spec, way)


def of_config(config: Mapping[str, Any], source: str) -> ModelSpeaker:
    """Build the model of a hub-style config: `architecture`, `pretrained_cfg`, `model_args`.

    Raises:
        ModelError: CS052 or CS062, see `by_name`.
    """
    refuse_code(config, source)
    with laid_out(config) as folder:
        return ModelSpeaker.of(_created(f"local-dir:{folder}", source, without_memory), source)


def _created(name: str, source: str, way: Way) -> Any:
    torch = need_torch()
    timm = installed(source)
    with sealed():
        make = partial(timm.create_model, name, pretrained=False)
        return way(torch, make, source, _LIST)


def installed(source: str) -> Any:
    """Import the library, in silence.

    Raises:
        ModelError: CS062 where it is not installed, or its import fails.
    """
    return library("timm", _library, source)


def _library() -> Any:
    import timm

    return timm
