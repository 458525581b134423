"""What may not be replaced: each a layer that a script without these checks gets wrong."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from convsurgeon.nn import FlatConv2d, GemmConv1d, GemmConv2d, PatchLinear
from tests.nn_cases import KINDS, make_conv, replacement


class Standardised(nn.Conv2d):
    """A subclass whose forward may be anything."""


def with_weight_g() -> nn.Conv2d:
    """Old-style weight norm, built by hand: its function warns of its deprecation."""
    conv = nn.Conv2d(3, 4, 2, 2)
    conv.weight_g = nn.Parameter(torch.ones(4, 1, 1, 1))
    return conv


def with_forward() -> nn.Conv2d:
    conv = nn.Conv2d(3, 4, 2, 2)
    vars(conv)["forward"] = torch.relu  # as offloading libraries do
    return conv


def with_hook() -> nn.Conv2d:
    conv = nn.Conv2d(3, 4, 2, 2)
    conv.register_forward_pre_hook(lambda *_: None)
    return conv


def with_parametrization() -> nn.Conv2d:
    conv = nn.Conv2d(3, 4, 2, 2)
    parametrize.register_parametrization(conv, "weight", nn.Identity())
    return conv


def pruned(name: str) -> nn.Module:
    conv = nn.Conv2d(3, 4, 2, 2)
    identity: Any = prune.identity
    identity(conv, name)
    return conv


def quantised() -> nn.Conv2d:
    conv = nn.Conv2d(3, 4, 2, 2)
    weight = torch.zeros(4, 3, 2, 2, dtype=torch.int8)
    conv.weight = nn.Parameter(weight, requires_grad=False)
    return conv


REFUSED = [
    (nn.Conv2d(3, 4, 3, 2), "stride"),
    (nn.Conv2d(3, 4, 2, 3), "stride"),
    (nn.Conv2d(3, 4, 1, 2), "stride"),
    (nn.Conv2d(3, 4, (2, 4), (4, 2)), "stride"),
    (nn.Conv2d(3, 4, 2, 2, padding=1), "padding .1, 1. is not 0"),
    (nn.Conv2d(3, 4, 2, 2, padding=(0, 1), padding_mode="reflect"), "padding"),
    (nn.Conv2d(3, 4, 1, 1, padding="same"), "padding 'same'"),
    (nn.Conv2d(3, 4, 2, 2, dilation=2), "dilation"),
    (nn.Conv2d(3, 4, (1, 2), (1, 2), dilation=(1, 2)), "dilation"),
    (nn.Conv2d(4, 4, 2, 2, groups=2), "2 groups"),
    (nn.ConvTranspose2d(3, 3, 2, 2), "not exactly Conv2d"),
    (nn.Linear(3, 4), "not exactly Conv2d"),
    (nn.LazyConv2d(4, 2, 2), "not exactly Conv2d"),
    (Standardised(3, 4, 2, 2), "not exactly Conv2d"),
    (GemmConv2d(3, 4, 2), "not exactly Conv2d"),
    (with_weight_g(), "weight_g"),
    (pruned("weight"), "weight_orig"),
    (pruned("bias"), "bias_orig"),
    (with_parametrization(), "parametrized"),
    (parametrizations.weight_norm(nn.Conv2d(3, 4, 2, 2)), "parametrized"),
    (parametrizations.spectral_norm(nn.Conv2d(3, 4, 2, 2)), "parametrized"),
    (with_forward(), "forward was replaced"),
    (with_hook(), "_forward_pre_hooks"),
    (quantised(), "floating-point"),
]


@pytest.mark.parametrize(("conv", "reason"), REFUSED)
def test_not_replaceable(conv: nn.Module, reason: str) -> None:
    for refuse in (GemmConv2d.from_conv, PatchLinear.from_conv):
        with pytest.raises(ValueError, match=f"cannot replace this .*{reason}"):
            refuse(conv)


@pytest.mark.parametrize("kind", KINDS)
def test_dilation_of_a_kernel_of_one_says_nothing(kind: str) -> None:
    conv = make_conv((1, 2), dilation=(3, 1))
    assert replacement(kind, conv)(torch.ones(1, 3, 4, 4)).shape == (1, 4, 4, 2)


def test_the_number_of_axes_must_be_the_class() -> None:
    with pytest.raises(ValueError, match="not exactly Conv1d"):
        GemmConv1d.from_conv(make_conv((2, 2)))


def test_layouts_and_kernels_of_a_patch_linear() -> None:
    with pytest.raises(ValueError, match="layout must be one of"):
        PatchLinear.from_conv(make_conv((2, 2)), "p1 c p2")
    with pytest.raises(ValueError, match="layout must be one of"):
        PatchLinear(3, 4, (2, 2), layout="")
    for kernel in ((), (1, 1, 1, 1)):
        with pytest.raises(ValueError, match="1 to 3 axes"):
            PatchLinear(3, 4, kernel)


class Subclass(nn.Linear):
    """A subclass whose forward may be anything."""


def test_linear_layers_that_are_not_replaceable() -> None:
    with pytest.raises(ValueError, match="make 16 features, but the linear layer takes 12"):
        FlatConv2d.from_linear(nn.Linear(12, 4), 4, (2, 2))
    attention = nn.MultiheadAttention(12, 2)
    normed = parametrizations.weight_norm(nn.Linear(12, 4))
    for linear in (Subclass(12, 4), attention.out_proj, normed, nn.Conv1d(12, 4, 1)):
        with pytest.raises(ValueError, match="cannot replace this"):
            FlatConv2d.from_linear(linear, 3, (2, 2))
