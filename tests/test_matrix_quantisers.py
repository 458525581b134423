"""Quantisers on a swapped model: whether they find the layer, and what it computes then."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convsurgeon as cs
from convsurgeon.nn import PatchLinear
from tests.matrix import swapped, works
from tests.matrix_models import apart, build, inputs, outputs

NAME = "ViTForImageClassification"
PROJECTION = "vit.embeddings.patch_embeddings.projection"


@pytest.fixture
def torchao() -> Any:
    """Its module of quantisation, imported once."""
    return pytest.importorskip("torchao.quantization", reason="its quantising is what is tested")


def model(kind: str) -> Any:
    return swapped(build(NAME), kind)


def projection(one: Any) -> Any:
    return one.get_submodule(PROJECTION)


def pixels() -> Tensor:
    x: Tensor = inputs(NAME)["pixel_values"]
    return x


def lost(kind: str, quantised: Any) -> float:
    """How much of the patch layer's output changed: the root mean square, relative to it."""
    with torch.no_grad():
        want, got = (projection(one)(pixels()) for one in (model(kind), quantised))
    return float((got - want).norm() / want.norm())


def check(kind: str, quantised: Any, most: float = 0.02) -> None:
    """Only a Linear is quantised, and it keeps what 8 bits hold of each number.

    A step is 1/127 of the largest number of a row or column, and an error evenly spread over it has
    a root mean square of 0.29 steps. The largest of normal numbers is about 3 times their root mean
    square: 0.7 % for weights, as much for inputs. Floats of 8 bits are off by up to one part in 16.
    """
    if kind != "linear":
        assert lost(kind, quantised) == 0
    else:
        assert 1e-4 < lost(kind, quantised) < most
    assert apart(outputs(quantised, inputs(NAME)), outputs(model(kind), inputs(NAME))) > 1e-4
    assert projection(quantised).weight.dtype == torch.float32
    assert tuple(projection(quantised).weight.shape) == (16, 3, 4, 4)
    if kind == "linear":
        (refused,) = cs.restore_module(quantised).refused
        assert (refused.module, refused.code) in {(PROJECTION, "CS023"), (PROJECTION, "CS027")}


def is_packed(one: Any) -> bool:
    """Tell whether the patch layer's weight is no plain tensor any more."""
    layer = projection(one)
    return (
        type((layer.linear if isinstance(layer, PatchLinear) else layer).weight) is not nn.Parameter
    )


CONFIGS: dict[str, Callable[[Any], Any]] = {
    "weight-only": lambda ao: ao.Int8WeightOnlyConfig(),
    "dynamic": lambda ao: ao.Int8DynamicActivationInt8WeightConfig(),
    "float8": lambda ao: ao.Float8WeightOnlyConfig(),
}
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


@works("torchao")
@every_config
def test_torchao(kind: str, config: Callable[[Any], Any], torchao: Any) -> None:
    quantised = model(kind)
    torchao.quantize_(quantised, config(torchao))
    assert is_packed(quantised) == (kind == "linear")
    check(kind, quantised, 1 / 16 if config is CONFIGS["float8"] else 0.02)


@works("torchao-compile")
@every_config
def test_torchao_and_compile(kind: str, config: Callable[[Any], Any], torchao: Any) -> None:
    torch._dynamo.reset()
    quantised = model(kind)
    torchao.quantize_(quantised, config(torchao))
    want = outputs(quantised, inputs(NAME))
    compiled: Any = torch.compile(quantised, backend="eager", fullgraph=True)
    got = outputs(compiled, inputs(NAME))
    assert apart(got, want) < 1e-5
    assert apart(got, outputs(model(kind), inputs(NAME))) > 1e-3


@works("torchao-reload")
@every_config
def test_torchao_reloads(kind: str, config: Callable[[Any], Any], torchao: Any) -> None:
    quantised, file = model(kind), io.BytesIO()
    torchao.quantize_(quantised, config(torchao))
    torch.save(quantised.state_dict(), file)
    file.seek(0)
    again = model(kind)
    again.load_state_dict(torch.load(file), assign=True)
    assert is_packed(again) == (kind == "linear")
    want = outputs(quantised, inputs(NAME))
    assert apart(outputs(again, inputs(NAME)), want) == 0
    assert apart(outputs(model(kind), inputs(NAME)), want) > 1e-4


@works("quantize_dynamic")
# It goes; those who use it are told to take torchao instead.
@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor, torch.quantize_per:UserWarning")
def test_quantize_dynamic(kind: str) -> None:
    quantise: Any = torch.ao.quantization.quantize_dynamic
    quantised = quantise(model(kind), {nn.Linear}, torch.qint8)
    inner = getattr(projection(quantised), "linear", None)
    assert isinstance(inner, torch.ao.nn.quantized.dynamic.Linear) == (kind == "linear")
    check(kind, quantised)


@works("quanto")
def test_quanto(kind: str) -> None:
    quanto = pytest.importorskip("optimum.quanto", reason="its quantising is what is tested")
    quantised = model(kind)
    quanto.quantize(quantised, weights=quanto.qint8)
    quanto.freeze(quantised)
    layer = projection(quantised)
    assert type(layer.linear if kind == "linear" else layer).__name__ == (
        "QLinear" if kind == "linear" else "QConv2d"
    )
    assert 1e-4 < lost(kind, quantised) < 0.02


class Int8Linear(nn.Module):
    """Stands for what bitsandbytes puts in the place of an nn.Linear: codes, and a scale a row."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.scale = linear.weight.detach().abs().amax(1, keepdim=True) / 127
        codes = (linear.weight.detach() / self.scale).round()
        self.weight = nn.Parameter(codes.to(torch.int8), requires_grad=False)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        rows = x.view(-1, x.shape[-1])  # as its kernels do
        out = nn.functional.linear(rows, self.weight * self.scale, self.bias)
        return out.view(*x.shape[:-1], -1)


def replaced(one: Any, make: Callable[[nn.Linear], nn.Module]) -> Any:
    """Put another module into the place of each that is an nn.Linear."""
    for parent in list(one.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Linear):
                setattr(parent, name, make(child))
    return one


@works("bitsandbytes")
def test_classes_are_replaced_as_bitsandbytes_does(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantised = replaced(model(kind), Int8Linear)
    assert isinstance(getattr(projection(quantised), "linear", None), Int8Linear) == (
        kind == "linear"
    )
    check(kind, quantised)
    if kind == "linear":
        # The model casts its pixels to what `weight.dtype` says. Were that the inner weight's:
        monkeypatch.setattr(PatchLinear, "weight", property(lambda it: it.linear.weight))
        with pytest.raises(RuntimeError, match="must have the same dtype, but got Char"):
            outputs(quantised, inputs(NAME))
