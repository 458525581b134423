"""`--model SPEC` as a live model, with memory: one that a checkpoint can be loaded into and run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from convsurgeon.errors import ModelError
from convsurgeon.sources.build import PROGRAM, parted
from convsurgeon.sources.builders import diffusers, function, timm, torchvision
from convsurgeon.sources.builders import transformers as hugging_face
from convsurgeon.sources.builders.guard import Way, with_memory, without_memory
from convsurgeon.sources.model import need_torch

if TYPE_CHECKING:
    from torch import nn

_MODELS: Mapping[str, Callable[[str, Way], Any]] = {
    "timm": timm.model_named,
    "torchvision": torchvision.model_named,
    "transformers": hugging_face.model_at,
    "diffusers": diffusers.model_at,
    "function": function.called,
}


def build_bare(spec: str) -> nn.Module:
    """Build the model that a SPEC names without memory, as its evidence is read.

    Raises:
        UsageError, ModelError, RefusedError: see `build_live`.
    """
    model: nn.Module = _maker(spec)(without_memory)
    return model


def build_live(spec: str, seed: int = 0) -> nn.Module:
    """Build the model that a SPEC names, with random weights, as its users would.

    Buffers that no file holds (rotary frequencies, indices of positions) have their values. Two
    calls give the same model, whatever it draws; global random numbers stay where they are.

    Args:
        spec: see `build`; not a FILE.pt2.
        seed: of torch's global random numbers.

    Raises:
        UsageError: CS090 where the spec has another form.
        ModelError: CS052 without torch; CS062 where the model cannot be built, or is an exported
            program.
        RefusedError: CS063 where a config cannot be read.
    """
    make = _maker(spec)
    torch = need_torch()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model: nn.Module = make(with_memory)
    return model


def _maker(spec: str) -> Callable[[Way], Any]:
    kind, rest = parted(spec)
    if kind == PROGRAM:
        text = "an exported program has no layers that a swapped file could be loaded into"
        hint = "name the code that it was exported from: --model file.py:function"
        raise ModelError("CS062", text, where=spec, hint=hint)
    return partial(_MODELS[kind], rest)
