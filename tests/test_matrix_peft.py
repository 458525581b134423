"""Adapters of PEFT on a swapped model: on the leaf, on all Linears, and those trained before."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch as safetensors_torch
import torch
from torch import Tensor, nn

import convsurgeon as cs
from tests.matrix import fails, swapped, works
from tests.matrix_models import SUBJECTS, apart, build, inputs, outputs, tolerance

peft = pytest.importorskip("peft", reason="its adapters are what is tested")
# It asks transformers by a name that will go.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is dep:FutureWarning")

NAME = "ViTForImageClassification"
PROJECTION = SUBJECTS[NAME].layers[0]
WITH_3D = ("Qwen2VLForConditionalGeneration", "WanTransformer3DModel")


@cache
def rounding(name: str = NAME) -> float:
    """What sums in another order and a merged weight may change."""
    return tolerance(build(name), inputs(name))


def config(*targets: str, **options: Any) -> Any:
    """A LoRA whose two factors are random, so that it changes the output."""
    names: Any = "all-linear" if targets == ("all-linear",) else list(targets)
    return peft.LoraConfig(r=4, target_modules=names, init_lora_weights=False, **options)


def model(kind: str, name: str = NAME) -> Any:
    return swapped(build(name), kind)


def leaf(kind: str, name: str = NAME) -> str:
    """What PEFT calls the module that it is to adapt."""
    last = SUBJECTS[name].layers[0].split(".")[-1]
    return f"{last}.linear" if kind == "linear" else last


def adapted(kind: str, *targets: str, name: str = NAME, seed: int = 4, **options: Any) -> Any:
    one = model(kind, name)
    torch.manual_seed(seed)
    return peft.get_peft_model(one, config(*targets, **options)).eval()


def run(one: Any, name: str = NAME) -> list[Tensor]:
    return outputs(one, inputs(name))


@works("lora-leaf")
@pytest.mark.parametrize("dora", [False, True], ids=["LoRA", "DoRA"])
@pytest.mark.parametrize("name", [NAME, *WITH_3D])
def test_on_the_leaf(kind: str, name: str, dora: bool, tmp_path: Path) -> None:
    tuned = adapted(kind, leaf(kind, name), name=name, use_dora=dora)
    before, place = run(tuned, name), SUBJECTS[name].layers[0]
    assert apart(before, run(model(kind, name), name)) > 0.1
    tuned(**inputs(name), return_dict=False)[0].sum().backward()
    moved = {n for n, p in tuned.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved
    assert all(f".{leaf(kind, name)}.lora_" in one for one in moved)
    with torch.no_grad():
        for one in moved:
            tuned.get_parameter(one).mul_(1.1)
    want = run(tuned, name)
    assert apart(want, before) > 0.01
    tuned.save_pretrained(tmp_path)
    again = peft.PeftModel.from_pretrained(model(kind, name), tmp_path).eval()
    assert apart(run(again, name), want) == 0
    if kind == "linear":
        (refused,) = cs.restore_module(tuned.base_model.model).refused
        assert (refused.module, refused.code) == (place, "CS027")
        assert "Linear of peft" in refused.reason
    merged = tuned.merge_and_unload()
    assert apart(run(merged, name), want) < rounding(name)
    cs.restore_module(merged)
    assert type(merged.get_submodule(place)) is type(build(name).get_submodule(place))
    assert apart(run(merged, name), want) < rounding(name)


@works("lora-all-linear")
def test_all_linear(kind: str) -> None:
    tuned = adapted(kind, "all-linear")
    layers = [m for m in tuned.modules() if isinstance(m, peft.tuners.lora.LoraLayer)]
    assert len(layers) == {"conv": 13, "gemm": 13, "linear": 14}[kind]
    projection = tuned.base_model.model.get_submodule(PROJECTION)
    inner = projection.linear if kind == "linear" else projection
    assert isinstance(inner, peft.tuners.lora.LoraLayer) == (kind == "linear")
    want = run(tuned)
    assert apart(want, run(model(kind))) > 0.1
    assert apart(run(tuned.merge_and_unload()), want) < rounding()


@works("lora-own-name")
def test_on_the_layers_own_name(kind: str) -> None:
    tuned = adapted(kind, "projection")
    layer = tuned.base_model.model.get_submodule(PROJECTION)
    assert isinstance(layer, peft.tuners.lora.layer.Conv2d)


@fails("lora-own-name")
def test_a_composite_is_nothing_that_peft_knows(kind: str) -> None:
    with pytest.raises(ValueError, match=r"(?s)Target module PatchLinear.* is not supported"):
        adapted(kind, "projection")
    adapted(kind, "projection.linear")


def saved(folder: Path) -> list[Tensor]:
    """Save an adapter of the convolution; return what the model makes with it."""
    tuned = adapted("conv", "projection", "q_proj")
    tuned.save_pretrained(folder)
    return run(tuned)


@works("lora-old-adapter")
def test_an_adapter_of_the_convolution(kind: str, tmp_path: Path) -> None:
    want = saved(tmp_path)
    tuned = peft.PeftModel.from_pretrained(model(kind), tmp_path).eval()
    assert apart(run(tuned), want) < rounding()
    assert apart(run(model(kind)), want) > 0.1


def reshaped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The adapter of a convolution as that of a Linear: what the page says to do."""
    return {
        key.replace("projection.lora_", "projection.linear.lora_"): value.flatten(1).contiguous()
        for key, value in tensors.items()
    }


@fails("lora-old-adapter")
def test_an_adapter_of_the_convolution_is_refused_until_it_is_reshaped(
    kind: str, tmp_path: Path
) -> None:
    want = saved(tmp_path)
    with pytest.raises(ValueError, match=r"(?s)Target module PatchLinear.* is not supported"):
        peft.PeftModel.from_pretrained(model(kind), tmp_path)
    tensors = safetensors_torch.load_file(tmp_path / "adapter_model.safetensors")
    tuned = adapted(kind, "projection.linear", "q_proj", seed=5)
    assert apart(run(tuned), want) > 0.1
    found = peft.set_peft_model_state_dict(tuned, reshaped(tensors))
    assert not found.unexpected_keys
    assert apart(run(tuned), want) < rounding()
    # The other way out: merge into the convolution, then swap.
    plain = peft.PeftModel.from_pretrained(build(NAME), tmp_path).merge_and_unload().eval()
    assert apart(run(swapped(plain, kind)), want) < rounding()


def others(**made: Any) -> pytest.MarkDecorator:
    """Configurations by name, each made when a test asks for it."""
    return pytest.mark.parametrize("other", made.values(), ids=made)


@works("other-tuners")
@others(
    LoHa=lambda on: peft.LoHaConfig(r=2, target_modules=on, init_weights=False),
    LoKr=lambda on: peft.LoKrConfig(r=2, target_modules=on, init_weights=False),
    IA3=lambda on: peft.IA3Config(
        target_modules=on, feedforward_modules=[], init_ia3_weights=False
    ),
    HRA=lambda on: peft.HRAConfig(r=2, target_modules=on, init_weights=False),
)
def test_other_adapters(kind: str, other: Callable[[list[str]], Any]) -> None:
    one = model(kind)
    torch.manual_seed(4)
    tuned = peft.get_peft_model(one, other([leaf(kind)])).eval()
    want = run(tuned)
    assert apart(want, run(model(kind))) > 1e-3
    assert apart(run(tuned.merge_and_unload()), want) < rounding()


for_linear_only = others(
    VeRA=lambda on: peft.VeraConfig(r=2, target_modules=on, init_weights=False),
    FourierFT=lambda on: peft.FourierFTConfig(n_frequency=10, target_modules=on),
    PiSSA=lambda on: peft.LoraConfig(r=2, target_modules=on, init_lora_weights="pissa"),
    OLoRA=lambda on: peft.LoraConfig(r=2, target_modules=on, init_lora_weights="olora"),
)


@works("linear-only")
@for_linear_only
def test_adapters_for_linear_only(kind: str, other: Callable[[list[str]], Any]) -> None:
    tuned = peft.get_peft_model(model(kind), other([leaf(kind)])).eval()
    layer = tuned.base_model.model.get_submodule(PROJECTION).linear
    assert isinstance(layer, peft.tuners.tuners_utils.BaseTunerLayer)
    want = run(tuned)
    assert apart(run(tuned.merge_and_unload()), want) < rounding()


@fails("linear-only")
@for_linear_only
def test_adapters_that_know_no_convolution(kind: str, other: Callable[[list[str]], Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=r"No layers types|not support|Unknown init"):
        peft.get_peft_model(model(kind), other([leaf(kind)]))


CONVS = {
    "Conv1d": (nn.Conv1d(3, 4, 2, 2), (2, 3, 9)),
    "Conv3d": (nn.Conv3d(3, 4, (1, 2, 2), (1, 2, 2)), (2, 3, 2, 5, 7)),
}


@works("lora-other-ranks")
@pytest.mark.parametrize(("conv", "size"), CONVS.values(), ids=CONVS)
def test_one_and_three_axes(kind: str, conv: nn.Module, size: tuple[int, ...]) -> None:
    x = torch.randn(size, generator=torch.Generator().manual_seed(1))
    one = swapped(nn.Sequential(deepcopy(conv), nn.ReLU()), kind)
    torch.manual_seed(4)
    tuned = peft.get_peft_model(one, config("0.linear" if kind == "linear" else "0"))
    with torch.no_grad():
        want = tuned(x)
        merged = tuned.merge_and_unload()
        assert torch.allclose(merged(x), want, atol=1e-5)
        assert not torch.allclose(conv(x).relu(), want, atol=1e-2)
        cs.restore_module(merged)
        assert torch.allclose(merged(x), want, atol=1e-5)
