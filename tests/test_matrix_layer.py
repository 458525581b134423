"""What code may do with the layer itself: read its weight, write to it, trace it, prune it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import fusion, parametrizations, prune

from convsurgeon.nn import PatchLinear
from tests.matrix import fails, swapped, works

pruned: Any = prune.l1_unstructured
ZEROS = torch.zeros(4, 3, 4, 4)


def model(kind: str) -> Any:
    torch.manual_seed(0)
    return swapped(nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Tanh()), kind).eval()


def pixels(side: int = 9) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def run(one: Any) -> Tensor:
    out: Tensor = one(pixels())
    return out


@works("weight-attributes")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_models_read_of_a_layer(kind: str, dtype: torch.dtype) -> None:
    layer = model(kind).to(dtype)[0]
    out, channels, height, width = layer.weight.shape
    assert (out, channels, height, width) == (4, 3, 4, 4)
    assert (layer.weight.dtype, layer.weight.device.type) == (dtype, "cpu")
    assert (layer.in_channels, layer.out_channels) == (channels, out)
    assert layer.kernel_size == layer.stride == (height, width)
    assert (layer.padding, layer.dilation, layer.groups) == ((0, 0), (1, 1), 1)
    assert layer.bias.shape == (out,)
    assert isinstance(layer, PatchLinear) == (kind == "linear")


@works("weight-in-place")
def test_what_is_written_in_place_is_computed_with(kind: str) -> None:
    for write in (lambda w: w.data.copy_(ZEROS), lambda w: w.data.zero_(), nn.init.zeros_):
        one = model(kind)
        write(one[0].weight)
        with torch.no_grad():
            assert torch.equal(run(one), one[0].bias.tanh()[None, :, None, None].expand(2, 4, 2, 2))
        assert not torch.equal(run(one), run(model(kind)))


@works("weight-data")
def test_a_weight_whose_data_is_set(kind: str) -> None:
    one = model(kind)
    one[0].weight.data = ZEROS
    assert not torch.equal(run(one), run(model(kind)))


@fails("weight-data")
def test_data_that_is_set_on_a_view_goes_nowhere(kind: str) -> None:
    one = model(kind)
    one[0].weight.data = ZEROS
    assert torch.equal(run(one), run(model(kind)))
    one[0].weight.data.copy_(ZEROS)
    assert not torch.equal(run(one), run(model(kind)))


def set_weight(layer: Any) -> None:
    layer.weight = nn.Parameter(ZEROS)


class Use(NamedTuple):
    """Something that is done to a layer whose weight is a parameter.

    Attributes:
        do: what is done.
        error: what it raises where the weight is computed.
        inner: whether it can be done to the inner layer instead.
    """

    do: Callable[[Any], object]
    error: type[Exception]
    inner: bool = True


USES = {
    "set": Use(set_weight, KeyError, inner=False),
    "freeze": Use(lambda layer: layer.weight.requires_grad_(requires_grad=False), RuntimeError),
    "optimise": Use(lambda layer: torch.optim.SGD([layer.weight]), ValueError),
    "prune": Use(lambda layer: pruned(layer, "weight", 0.5), TypeError),
    "parametrise": Use(parametrizations.weight_norm, ValueError),
    "fuse": Use(
        lambda layer: fusion.fuse_conv_bn_eval(layer, nn.BatchNorm2d(4).eval()),
        KeyError,
        inner=False,
    ),
}
every_use = pytest.mark.parametrize("use", USES.values(), ids=USES)


@works("weight-parameter")
@every_use
def test_a_weight_as_a_parameter(kind: str, use: Use) -> None:
    one, plain = model(kind), model("conv")
    for layer in (one[0], plain[0]):
        use.do(layer)
    assert torch.allclose(run(one), run(plain), atol=1e-6)
    assert [*one.state_dict()] == [*plain.state_dict()]


@fails("weight-parameter")
@every_use
def test_a_view_is_no_parameter(kind: str, use: Use) -> None:
    one, plain = model(kind), model("conv")
    with pytest.raises(use.error):
        use.do(one[0])
    if use.inner:
        one = model(kind)
        for layer in (one[0].linear, plain[0]):
            use.do(layer)
        assert torch.allclose(run(one), run(plain), atol=1e-6)


@works("isinstance")
def test_it_is_a_convolution(kind: str) -> None:
    assert isinstance(model(kind)[0], nn.Conv2d)


@fails("isinstance")
def test_it_is_no_convolution(kind: str) -> None:
    one = model(kind)
    assert not isinstance(one[0], nn.Conv2d)
    assert type(one[0].linear) is nn.Linear


@works("jit-trace")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # of the checks of sizes
def test_a_torchscript_by_tracing(kind: str) -> None:
    one, trace = model(kind), vars(torch.jit)["trace"]
    traced: Any = trace(one, (pixels(),))
    for side in (9, 8, 13):
        assert torch.equal(traced(pixels(side)), one(pixels(side)))


@works("jit-script")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_torchscript_from_source(kind: str) -> None:
    scripted: Any = torch.jit.script(model(kind))
    assert torch.equal(scripted(pixels()), model(kind)(pixels()))


@fails("jit-script")
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_torchscript_needs_a_trace(kind: str) -> None:
    with pytest.raises((RuntimeError, ValueError, torch.jit.frontend.NotSupportedError)):
        torch.jit.script(model(kind))
