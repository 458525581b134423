"""Small models with outputs of every kind, and pairs of files to load and run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch as safetensors_torch
import torch
from safetensors import safe_open
from torch import Tensor, nn

import convsurgeon as cs
from convsurgeon.nn import PatchLinear
from convsurgeon.proof.moves import ModelInputs
from convsurgeon.proof.whole import Comparison, run_models
from tests.test_samples import FOLDER

HEAD = ("classifier.1=16x4x4", "classifier.3=120x1x1", "classifier.5=84x1x1")
SAMPLES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "vit_digits": (("4x1x8x8",), {}),
    "jit_digits": (("z=2x1x28x28", "t=2"), {"layout": "p1 p2 c"}),
    "clip3d_digits": (("x=2x1x6x24x24",), {}),
    "lenet_digits": (
        ("2x1x28x28",),
        {"to": "conv", "layers": ["classifier.*"], "input_shape": HEAD},
    ),
}
"""By name of a sample what it is run on, and how it is swapped."""


class Pair(NamedTuple):
    one: Any
    other: Any


@dataclass
class Record:
    value: Any
    label: str = "a text"


class Opaque:
    """Something that nothing is known about."""


class Model(nn.Module):
    """A patch embedding and a head, with whatever a test does to their results."""

    proj: Any

    def __init__(self, finish: Callable[[Tensor], Any] = lambda y: y) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.proj = nn.Conv2d(3, 8, 4, 4)
        self.head = nn.Linear(8, 5)
        self.finish = finish

    def forward(self, x: Tensor) -> Any:
        return self.finish(self.head(self.proj(x).flatten(2).transpose(1, 2)))


def image(dtype: torch.dtype = torch.float32) -> ModelInputs:
    generator = torch.Generator().manual_seed(3)
    return ModelInputs((torch.randn(2, 3, 8, 8, generator=generator).to(dtype),), {})


def swap(model: nn.Module, layout: str = "p1 p2 c") -> Any:
    """Return a copy with a drop-in in the place of `proj`."""
    copy: Any = deepcopy(model).eval()
    copy.proj = PatchLinear.from_conv(copy.proj, layout)
    return copy


def run(model: nn.Module, other: nn.Module | None = None, **options: Any) -> Comparison:
    """Run a model and its true swap, or another, on an image."""
    return run_models(model.eval(), other or swap(model), options.pop("x", image()), **options)


def within(found: Comparison) -> bool:
    return bool(found.outputs) and all(one.within for one in found.outputs)


def damage(model: Any) -> Any:
    """Exchange two columns of the swapped weight."""
    with torch.no_grad():
        model.proj.linear.weight[:, [0, 1]] = model.proj.linear.weight[:, [1, 0]].clone()
    return model


OUTPUTS: Mapping[str, tuple[Callable[[Tensor], Any], list[str]]] = {
    "a tensor": (lambda y: y, ["0"]),
    "a tuple": (lambda y: (y, None, y + 1, 3), ["0", "2"]),
    "a dict": (lambda y: {"a": y, "b": {"c": [y, y * 2]}}, ["a", "b.c.0", "b.c.1"]),
    "an output class": (lambda y: OrderedDict(logits=y, hidden=(y, y)), ["logits", "hidden.0", "hidden.1"]),
    "a namedtuple": (lambda y: Pair(y, [y]), ["one", "other.0"]),
    "a dataclass": (lambda y: Record([y, Record(y)]), ["value.0", "value.1.value"]),
    "complex": (lambda y: torch.complex(y, -y), ["0"]),
    "sparse": (lambda y: {"s": y.to_sparse()}, ["s"]),
    "empty": (lambda y: (y, y[:0]), ["0", "1"]),
}  # fmt: skip


def sample(name: str, folder: Path) -> tuple[Path, Path, str]:
    """Swap a sample; return both files and the SPEC of its model."""
    spec, out = f"{FOLDER / name / 'model.py'}:build", folder / f"{name}.safetensors"
    source = FOLDER / name / "model.safetensors"
    cs.swap(source, out, model=spec, **SAMPLES[name][1])
    return source, out, spec


def changed(path: Path, key: str, change: Callable[[Tensor], Tensor | None]) -> Path:
    """Write a file again with one tensor changed, or left out, and the same metadata."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = safetensors_torch.load_file(path)
    found = change(tensors.pop(key).clone())
    if found is not None:
        tensors[key] = found.contiguous()
    out = path.with_name(f"changed-{path.name}")
    safetensors_torch.save_file(tensors, out, metadata)
    return out
