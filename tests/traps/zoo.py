"""Small models with the traps that only a model shows: named on the command line as evidence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations


class StandardisedConv(nn.Conv2d):
    """Normalises its weight in each forward, as BiT and the hybrids of ViT do; adds no tensor."""

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.weight.mean((1, 2, 3)), self.weight.var((1, 2, 3))
        weight = (self.weight - mean[:, None, None, None]) / variance[:, None, None, None].sqrt()
        return functional.conv2d(x, weight, self.bias, self.stride)


class SamePaddingConv(nn.Conv2d):
    """Pads when the input is no multiple of its stride, as TensorFlow does."""

    def forward(self, x: Tensor) -> Tensor:
        rest = [-size % step for size, step in zip(x.shape[2:], self.stride, strict=True)]
        return super().forward(functional.pad(x, (0, rest[1], 0, rest[0])))


class Conv1D(nn.Module):
    """GPT-2's: a matrix `[in, out]`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(inputs, outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))


class Experts(nn.Module):
    """The matrices of several experts as one tensor of rank 3."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(4, 8, 6))


class Grid(nn.Module):
    """A learnt table with the shape of a conv's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, 8, 4, 4))


def geometries() -> nn.Module:
    conv: Any = nn.Conv2d
    layers = {
        "plain": conv(3, 8, 4, 4),
        "valid": conv(3, 8, 4, 4, padding="valid"),
        "overlapping": conv(3, 8, 7, 4, 3),
        "lower_stride": conv(3, 8, 4, 2),
        "padded": conv(3, 8, 4, 4, 2),
        "same": conv(3, 8, 3, padding="same"),
        "same_1x1": conv(3, 8, 1, padding="same"),
        "reflecting": conv(3, 8, 4, 4, 1, padding_mode="reflect"),
        "reflecting_nothing": conv(3, 8, 4, 4, padding_mode="reflect"),
        "dilated": conv(3, 8, 2, 2, dilation=2),
        "dilated_1x1": conv(3, 8, 1, dilation=2),
        "grouped": conv(8, 16, 4, 4, groups=4),
        "depthwise": conv(8, 8, 2, 2, groups=8),
        "depthwise_1x1": conv(8, 8, 1, groups=8),
        "shortcut": conv(8, 16, 1, 2),
        "up": nn.ConvTranspose2d(8, 8, 2, 2),
        "widening_up": nn.ConvTranspose2d(8, 4, 2, 2),
        "lpips": conv(8, 1, 1, bias=False),
    }
    return nn.ModuleDict(layers)


def subclasses() -> nn.Module:
    layers = {
        "standardised": StandardisedConv(3, 8, 4, 4),
        "same": SamePaddingConv(3, 8, 4, 4),
        "normed": parametrizations.weight_norm(nn.Conv2d(3, 8, 4, 4)),
        "spectral": parametrizations.spectral_norm(nn.Conv2d(3, 8, 4, 4)),
        "old_spectral": nn.utils.spectral_norm(nn.Conv2d(3, 8, 4, 4)),
        "experts": Experts(),
        "grid": Grid(),
    }
    return nn.ModuleDict(layers)


def matrices() -> nn.Module:
    layers = {
        "linear": nn.Linear(6, 8),
        "c_attn": Conv1D(8, 24),
        "c_proj": Conv1D(8, 8),
        "relative_attention_bias": nn.Embedding(32, 8),
        "words": nn.Embedding(10, 8),
    }
    return nn.ModuleDict(layers)


def two_strides() -> nn.Module:
    """One tensor, used at stride 4 and at stride 2: a file holds it once."""
    model = nn.ModuleDict({"a": nn.Conv1d(1, 8, 4, 4), "b": nn.Conv1d(1, 8, 4, 2)})
    model["b"].weight = model["a"].weight
    return model


def twins() -> nn.Module:
    """One tensor of two layers that are alike."""
    model = nn.ModuleDict({"a": nn.Conv1d(1, 8, 4, 4), "b": nn.Conv1d(1, 8, 4, 4)})
    model["b"].weight = model["a"].weight
    return model
