"""Live surgery on models of timm and torchvision: the same outputs, and the way back."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convsurgeon as cs
from convsurgeon.errors import ModelError
from convsurgeon.sources.live import build_live
from tests.live_cases import contents, same_tree

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore")]

LINEAR: dict[str, Any] = {}
GEMM: dict[str, Any] = {"kind": "gemm"}
TO_CONV: dict[str, Any] = {"to": "conv", "method": "1x1"}
MODELS = {
    # SPEC: side of an image; convolutions that become linear, and Linears that become
    # convolutions; Linears whose weight a parent reads.
    "timm:vit_tiny_patch16_224": (224, 1, 49, 0),
    "timm:convnext_atto": (64, 28, 1, 0),
    "timm:eva02_tiny_patch14_224": (224, 1, 36, 12),
    "timm:mobilevit_xxs": (64, 21, 37, 0),
    "timm:swinv2_tiny_window8_256": (256, 1, 64, 12),
    "timm:resnet18": (64, 0, 1, 0),
    "timm:coatnet_nano_rw_224": (224, 67, 1, 0),
    "torchvision:swin_t": (64, 1, 28, 24),
    "torchvision:convnext_tiny": (64, 4, 37, 0),
}


def built(spec: str) -> nn.Module:
    try:
        model = build_live(spec).double().eval()
    except ModelError as error:
        pytest.skip(f"needs the library: {error.message}")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Some begin with gains of 0, behind which nothing of the image is left.
            if not parameter.any():
                nn.init.normal_(
                    parameter, std=0.02, generator=torch.Generator().manual_seed(len(name))
                )
    return model


@pytest.mark.parametrize("options", [LINEAR, GEMM, TO_CONV], ids=["linear", "gemm", "conv"])
@pytest.mark.parametrize("spec", MODELS)
def test_the_same_outputs_and_the_way_back(spec: str, options: dict[str, Any]) -> None:
    side, to_linear, to_conv, read = MODELS[spec]
    model, plain = built(spec), built(spec)
    x = torch.randn(
        1, 3, side, side, dtype=torch.float64, generator=torch.Generator().manual_seed(5)
    )
    plan = cs.swap_module(model, **options).files[0]
    codes = Counter(row.code for row in plan.layers)
    assert len(plan.rewrites) == (to_conv if options is TO_CONV else to_linear)
    assert codes["CS021"] == (read if options is TO_CONV else 0)
    assert set(codes) <= {None, "CS001", "CS002", "CS005", "CS021"}
    with torch.no_grad():
        want: Tensor = plain(x)
        assert float(want.abs().max()) > 0
        assert torch.allclose(model(x), want, rtol=1e-11, atol=1e-12)
    assert len(cs.restore_module(model).restored) == len(plan.rewrites)
    assert contents(model) == contents(plain)
    assert same_tree(model, plain)
