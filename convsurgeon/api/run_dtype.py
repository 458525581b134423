"""In which dtype whole models are run, and what becomes of what is stored in another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import prod
from typing import TYPE_CHECKING

from convsurgeon.api.wanted import FLOATS
from convsurgeon.errors import UsageError
from convsurgeon.store import Checkpoint

if TYPE_CHECKING:
    import torch
    from torch import nn

_TORCH = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_FLOATING = ("F", "BF")
_HALF = ("bfloat16", "float16")


def check_dtype(dtype: str | None) -> None:
    """Refuse what no model is run in.

    Raises:
        UsageError: CS090.
    """
    if dtype not in {None, *FLOATS}:
        text = f"{dtype!r} is none of {', '.join(FLOATS)}"
        raise UsageError("CS090", text, where="--dtype")


def stored_dtypes(checkpoint: Checkpoint) -> Counter[str]:
    """Count the floating elements of a checkpoint by their dtype."""
    found: Counter[str] = Counter()
    for source in checkpoint.sources:
        for info in source.header.tensors:
            if info.dtype.startswith(_FLOATING):
                found[info.dtype] += prod(info.shape)
    return found


def usual_dtype(stored: Counter[str]) -> str:
    """Return the dtype of most elements, as torch names it.

    Raises:
        UsageError: CS090 where no model is run in it.
    """
    most = max(stored, key=lambda dtype: stored[dtype], default="F32")
    if most not in _TORCH:
        text = f"most of the original is stored in {most}, in which no model is run"
        raise UsageError("CS090", text, where="--dtype", hint="add --dtype float32")
    return _TORCH[most]


def dtype_notes(stored: Counter[str], dtype: str) -> Iterator[str]:
    """Say what is run in another dtype than it is stored in, and where that hides much.

    Args:
        stored: see `stored_dtypes`.
        dtype: that the models are run in.
    """
    for name, count in sorted(stored.items()):
        if _TORCH.get(name) != dtype:
            yield f"{count} elements are stored in {name} and run in {dtype}"
    if dtype in _HALF:
        yield f"a last place is large in {dtype}: --dtype float64 sees far smaller changes"


def converted(model: nn.Module, dtype: str) -> nn.Module:
    """Convert a model's floating numbers, and leave complex ones, which `to(dtype)` would cut."""
    ways = {"float64": model.double, "float32": model.float, "bfloat16": model.bfloat16}
    return ways.get(dtype, model.half)()


def main_dtype(model: nn.Module) -> torch.dtype:
    """Return the dtype of most of a model's floating parameters; float32 where it has none."""
    import torch

    found: Counter[torch.dtype] = Counter()
    for parameter in model.parameters():
        if parameter.is_floating_point():
            found[parameter.dtype] += parameter.numel()
    return max(found, key=lambda dtype: found[dtype], default=torch.float32)


def name_of(dtype: torch.dtype) -> str:
    """Return `float32` for `torch.float32`."""
    return str(dtype).removeprefix("torch.")
