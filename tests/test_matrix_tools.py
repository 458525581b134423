"""What libraries do with a module: offload it, initialise it again, save it and read it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import convsurgeon as cs
from convsurgeon.integrations.loaders import load_through
from tests.live_cases import contents
from tests.loader_cases import fused, fusion, reconfigured
from tests.matrix import fails, swapped, works
from tests.matrix_models import apart, build, inputs, outputs
from tests.transformers_cases import quieten

NAME = "ViTForImageClassification"
PROJECTION = "vit.embeddings.patch_embeddings.projection"
DIT = "DiTTransformer2DModel"


@pytest.fixture(autouse=True)
def _quiet() -> None:
    quieten()


def model(kind: str, name: str = NAME) -> Any:
    return swapped(build(name), kind)


@works("disk-offload")
def test_disk_offload(kind: str, tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate", reason="its offloading is what is tested")
    one = model(kind)
    want = outputs(one, inputs(NAME))
    accelerate.disk_offload(one, tmp_path, execution_device="cpu")
    assert all(p.is_meta for p in one.parameters())
    assert apart(outputs(one, inputs(NAME)), want) == 0
    assert {row.code for row in cs.restore_module(one).refused} == (
        set() if kind == "conv" else {"CS007"}
    )


@works("init-weights")
def test_weights_are_initialised_again(kind: str) -> None:
    one = model(kind)
    for module in one.modules():
        module._is_hf_initialized = False
    nn.init.zeros_(one.get_submodule(PROJECTION).weight)
    torch.manual_seed(7)
    one.init_weights()
    if kind != "conv":
        cs.restore_module(one)
    spread = float(one.get_submodule(PROJECTION).weight.detach().std())
    assert 0.8 < spread / one.config.initializer_range < 1.2


@works("save-pretrained")
def test_what_transformers_saves_it_reads(kind: str, tmp_path: Path) -> None:
    one = model(kind)
    one.save_pretrained(tmp_path)
    assert contents(type(one).from_pretrained(tmp_path)) == contents(build(NAME))


@fails("own-fusion")
@fusion
@pytest.mark.parametrize(
    "name", ["Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration"]
)
def test_the_fusion_of_transformers_loses_weights(kind: str, name: str, tmp_path: Path) -> None:
    """What `fusion_config` asks for, in a process that does not keep it switched on."""
    original, given = model(kind, name), inputs(name)
    original.save_pretrained(tmp_path)
    found = load_through("transformers", fused(tmp_path))
    assert any("linear_proj.weight is newly initialised" in line for line in found.complaints)
    assert apart(outputs(found.model, given), outputs(original, given)) > 0.1
    plain = load_through("transformers", reconfigured(tmp_path, fusion_config=None))
    assert apart(outputs(plain.model, given), outputs(original, given)) == 0


@works("diffusers-save")
def test_what_diffusers_saves_it_reads(kind: str, tmp_path: Path) -> None:
    one = model(kind, DIT)
    one.save_pretrained(tmp_path)
    assert contents(type(one).from_pretrained(tmp_path)) == contents(build(DIT))


@fails("diffusers-save")
def test_diffusers_leaves_weights_unwritten(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("accelerate", reason="diffusers makes models without memory through it")
    one = model(kind, DIT)
    one.save_pretrained(tmp_path / "swapped")
    again = type(one).from_pretrained(tmp_path / "swapped")
    assert {name for name, p in again.named_parameters() if p.is_meta} == {
        "pos_embed.proj.weight",
        "pos_embed.proj.bias",
    }
    cs.save_pretrained(one, tmp_path / "plain")
    assert contents(type(one).from_pretrained(tmp_path / "plain")) == contents(build(DIT))
