"""The models of diffusers: every ModelMixin, from the defaults of its constructor."""

from __future__ import annotations

import inspect
import json
import pkgutil
from collections.abc import Iterator
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

from tools.zoo.models import Built, Candidate, Changes, Library, made
from tools.zoo.provenance import tagged

_PATCHED = {"in_channels": 4, "num_layers": 2, "sample_size": 64, "patch_size": 2}
_NEEDED: dict[str, dict[str, Any]] = {
    "HunyuanDiT2DModel": {"in_channels": 4, "patch_size": 2, "sample_size": 128},
    "HunyuanDiT2DControlNetModel": {
        "conditioning_channels": 3, "in_channels": 4, "patch_size": 2, "sample_size": 128,
    },
    "Transformer2DModel": {
        **_PATCHED, "num_embeds_ada_norm": 1000, "norm_type": "ada_norm_zero",
    },
    "UTransformer2DModel": {**_PATCHED, "norm_type": "layer_norm"},
    "UniDiffuserModel": {
        **_PATCHED, "norm_type": "layer_norm", "use_patch_pos_embed": True, "text_dim": 64,
        "clip_img_dim": 512, "num_text_tokens": 77, "out_channels": 4,
    },
    "AutoencoderKLHunyuanImage": {
        "in_channels": 3, "out_channels": 3, "latent_channels": 64, "layers_per_block": 2,
        "block_out_channels": (128, 256, 512, 512, 1024, 1024), "sample_size": 384,
        "spatial_compression_ratio": 32,
    },
}  # fmt: skip
"""Arguments without which a class builds nothing: as its checkpoints have them, fewer layers."""


def library() -> Library:
    """Return every model class, those that only one pipeline uses included."""
    found = import_module("diffusers")
    base = found.ModelMixin
    kinds: dict[str, type] = {}
    for package in ("diffusers.models", "diffusers.pipelines"):
        for module in _modules(package):
            for name, kind in vars(module).items():
                if isinstance(kind, type) and issubclass(kind, base) and kind is not base:
                    own = kind.__module__.startswith("diffusers.")
                    kinds |= {name: kind} if own and kind.__name__ == name else {}
    candidates = [Candidate(name, partial(_build, kinds[name])) for name in sorted(kinds)]
    return Library("diffusers", found.__version__, tuple(candidates))


def _modules(package: str) -> Iterator[ModuleType]:
    found = import_module(package)
    for each in pkgutil.walk_packages(found.__path__, f"{package}."):
        try:
            yield import_module(each.name)
        except Exception:  # noqa: BLE001, S112 - needs a library that is not there: no candidates
            continue


def _build(kind: Any, changes: Changes) -> Built:
    parameters = inspect.signature(kind.__init__).parameters.values()
    values = {p.name: p.default for p in parameters if p.default is not p.empty}
    values |= _NEEDED.get(kind.__name__, {}) | changes
    model = made(partial(kind, **{name: tagged(each, name) for name, each in values.items()}))
    return Built(model, _written(model), values, {"": kind.__name__})


def _written(model: Any) -> Any:
    """Return what `save_config` would write; a model without a registered one writes none."""
    if not hasattr(model, "to_json_string"):
        return None
    return json.loads(model.to_json_string())
