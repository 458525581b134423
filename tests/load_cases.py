"""A small model to load files into, and files of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import safetensors.torch as safetensors_torch
import torch
from torch import nn

import convsurgeon as cs


class Model(nn.Module):
    """A stem, twice in one list and once by name, and a head behind it."""

    stems: Any
    again: Any
    head: Any

    def __init__(self, dims: int = 2, seed: int = 0, *, bias: bool = True) -> None:
        super().__init__()
        torch.manual_seed(seed)
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
        kernel: Any = (2, 3, 2)[:dims]
        self.stems = nn.ModuleList([nn.Identity(), conv(3, 8, kernel, stride=kernel, bias=bias)])
        self.again = self.stems[1]
        self.norm = nn.BatchNorm1d(8)
        self.head = nn.Linear(8 * 2**dims, 5)

    def forward(self, x: Any) -> Any:
        return self.head(self.norm(self.again(x).flatten(2)).flatten(1))


def image(dims: int = 2) -> Any:
    size = [2 * k for k in (2, 3, 2)[:dims]]
    return torch.randn(4, 3, *size, generator=torch.Generator().manual_seed(7))


def save(model: nn.Module, path: Path) -> Path:
    safetensors_torch.save_model(model, str(path))
    return path


def surgery(folder: Path, dims: int = 2, **choices: Any) -> tuple[Model, Path]:
    """Save a model and swap its stem; return the model and the swapped file."""
    model, out = Model(dims).eval(), folder / "out.safetensors"
    kernel = "x".join(map(str, (2, 3, 2)[:dims]))
    options = {"geometry": [f"*=s{kernel}"]} | choices
    cs.swap(save(model, folder / "in.safetensors"), out, **options)
    return model, out


def close(first: nn.Module, second: nn.Module, x: Any) -> bool:
    with torch.no_grad():
        return torch.allclose(first(x), second(x), rtol=1e-5, atol=1e-6)
