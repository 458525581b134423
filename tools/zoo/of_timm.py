"""The models of timm: every registered name, and each patchifying one with another patch size."""

from __future__ import annotations

import json
from functools import partial
from importlib import import_module
from typing import Any

from tools.zoo.models import Built, Candidate, Changes, Library, made

_SMALL, _LARGE = 8, 64
_OTHER = {16: 8, 14: 16, 32: 16, 8: 16, 4: 2, 2: 4}


def library() -> Library:
    """Return every registered model."""
    timm = import_module("timm")
    candidates = [Candidate(name, partial(_build, name)) for name in timm.list_models()]
    return Library("timm", timm.__version__, tuple(candidates), variants)


def _build(name: str, changes: Changes) -> Built:
    model = made(partial(import_module("timm").create_model, name, **changes))
    pretrained = json.loads(json.dumps(model.pretrained_cfg, default=str))
    return Built(model, {"architecture": name, "pretrained_cfg": pretrained}, changes, {})


def variants(row: dict[str, Any]) -> list[Candidate]:
    """Return the same architecture with another patch size, if it patchifies."""
    kernels = [conv["kernel"][-1] for conv in row["convs"] if conv["eligible"]]
    patches = [kernel for kernel in kernels if kernel > 1]
    if not patches:
        return []
    sizes = [_OTHER.get(patches[0], 2 * patches[0])]
    if patches[0] < _SMALL:
        sizes.append(_LARGE)  # that of the whole stem, of which these patches are the last step
    names = [(size, f"{row['name']}|patch_size={size}") for size in sizes]
    return [Candidate(name, partial(_build_other, row["name"], size)) for size, name in names]


def _build_other(name: str, size: int, changes: Changes) -> Built:
    """Build with another patch size.

    Raises:
        TypeError: the architecture has no patch size, or has it and ignores it.
    """
    built = _build(name, {"patch_size": size, **changes})
    base = import_module("torch.nn.modules.conv")._ConvNd  # noqa: SLF001
    kernels = [m.kernel_size for m in built.model.modules() if isinstance(m, base)]
    before = [m.kernel_size for m in _build(name, {}).model.modules() if isinstance(m, base)]
    if kernels == before:
        raise TypeError(f"patch_size={size} changes no kernel")
    config = {**built.config, "model_args": {"patch_size": size}}
    return Built(built.model, config, built.values, built.model_types)
