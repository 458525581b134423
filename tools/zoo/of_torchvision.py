"""The models of torchvision: every registered name, and patchifying ones with other patches."""

from __future__ import annotations

import inspect
from functools import partial
from importlib import import_module
from typing import Any

from tools.zoo.models import Built, Candidate, Changes, Library, made, overriding, replaced


def library() -> Library:
    """Return every registered model."""
    models = import_module("torchvision.models")
    version = import_module("torchvision").__version__
    candidates = []
    for name in models.list_models():
        builder = models.get_model_builder(name)
        candidates.append(Candidate(name, partial(_build, builder)))
    return Library("torchvision", version, tuple(candidates), variants)


def _build(builder: Any, changes: Changes) -> Built:
    accepted = inspect.signature(builder).parameters
    weights = {each: None for each in ("weights", "weights_backbone") if each in accepted}
    model = made(partial(builder, **weights, **changes))
    return Built(model, {}, changes, {})


def variants(row: dict[str, Any]) -> list[Candidate]:
    """Return the same architecture with patches of three times the size, if it patchifies."""
    kernels = [c["kernel"] for c in row["convs"] if c["eligible"] and max(c["kernel"]) > 1]
    if not kernels:
        return []
    patch = [kernel if axis == 0 < len(kernels[0]) - 2 else 3 * kernel
             for axis, kernel in enumerate(kernels[0])]  # fmt: skip
    size = "x".join(map(str, patch))
    build = partial(_build_other, row["name"], patch)
    return [Candidate(f"{row['name']}|patch_size={size}", build)]


def _build_other(name: str, patch: list[int], changes: Changes) -> Built:
    """Build the class behind a builder with another patch size than the builder passes.

    Raises:
        TypeError: the class has no patch size.
    """
    build = import_module("torchvision.models").get_model_builder(name)
    kind = type(made(build))
    accepted = inspect.signature(kind).parameters
    if "patch_size" not in accepted:
        raise TypeError("the class has no patch size")
    if "image_size" in accepted:
        fields = {"patch_size": patch[0], "image_size": 2 * patch[0], **changes}
    else:
        fields = {"patch_size": patch, **changes}
    with replaced(vars(import_module(kind.__module__)), kind.__name__, overriding(kind, fields)):
        return Built(made(build), {}, changes, {})
