from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from convsurgeon.nn import GemmConv1d, GemmConv2d, GemmConv3d
from tests.nn_cases import CONVS, GEMMS, bits, make_conv


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_it_stays_the_convolution_to_everyone_who_looks(dims: int) -> None:
    conv = make_conv((2,) * dims).eval()
    conv.weight.requires_grad = False
    vars(conv)["note"] = "kept"
    gemm = GEMMS[dims].from_conv(conv)
    assert isinstance(gemm, CONVS[dims])
    assert gemm.weight is conv.weight
    assert gemm.bias is conv.bias
    assert gemm.note == "kept"
    assert not gemm.training
    assert list(gemm.state_dict()) == ["weight", "bias"]
    assert repr(gemm) == f"Gemm{conv!r}"
    conv.load_state_dict(gemm.state_dict())


def test_tables_are_its_own() -> None:
    conv = make_conv((2, 2))
    gemm = GemmConv2d.from_conv(conv)
    gemm.register_buffer("extra", torch.zeros(1))
    gemm.register_forward_hook(lambda *_: None)
    assert not hasattr(conv, "extra")
    assert not conv._forward_hooks


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_inverse(dims: int) -> None:
    conv = make_conv((3,) * dims)
    back = GEMMS[dims].from_conv(conv).to_conv()
    assert type(back) is type(conv)
    assert back.weight is conv.weight
    assert vars(back).keys() == vars(conv).keys()
    assert repr(back) == repr(conv)


def test_training_goes_on_in_the_convolution() -> None:
    conv = make_conv((2, 2))
    gemm = GemmConv2d.from_conv(conv)
    torch.autograd.backward(gemm(torch.randn(1, 3, 4, 4)).sum())
    assert conv.weight.grad is not None
    torch.optim.SGD(conv.parameters(), lr=0.1).step()
    assert torch.equal(bits(gemm.weight), bits(conv.weight))


@pytest.mark.parametrize(
    ("cls", "kernel", "shape", "out"),
    [
        (GemmConv1d, 3, (2, 4, 10), (2, 5, 3)),
        (GemmConv2d, (2, 3), (4, 5, 6), (5, 2, 2)),
        (GemmConv3d, 2, (0, 4, 2, 3, 5), (0, 5, 1, 1, 2)),
    ],
)
def test_built_from_nothing_it_is_exact(
    cls: type[GemmConv2d],
    kernel: int | tuple[int, ...],
    shape: tuple[int, ...],
    out: tuple[int, ...],
) -> None:
    gemm = cls(4, 5, kernel, bias=False, dtype=torch.float64)
    assert gemm.stride == gemm.kernel_size
    assert gemm(torch.ones(shape, dtype=torch.float64)).shape == out


@pytest.mark.parametrize(
    ("name", "value"),
    [("stride", (1, 1)), ("padding", (1, 0)), ("dilation", (2, 1)), ("groups", 3)],
)
def test_a_geometry_changed_later_is_refused(name: str, value: object) -> None:
    """Scripts set a smaller stride for denser features; ignoring it would be silently wrong."""
    gemm = GemmConv2d.from_conv(make_conv((2, 2)))
    setattr(gemm, name, value)
    with pytest.raises(RuntimeError, match="cannot compute this"):
        gemm(torch.ones(1, 3, 4, 4))
    assert isinstance(gemm.to_conv(), nn.Conv2d)


def test_its_constructor_takes_what_the_convolutions_takes() -> None:
    """Adapters make a narrower layer of the same class, with the geometry of the one at hand."""
    gemm = GemmConv2d(4, 5, (2, 3))
    settings = (gemm.stride, gemm.padding, gemm.dilation, gemm.groups, False, gemm.padding_mode)
    twin = type(gemm)(4, 6, gemm.kernel_size, *settings, "meta", torch.float64)
    assert repr(twin) == repr(nn.Conv2d(4, 6, (2, 3), *settings)).replace("Conv2d", "GemmConv2d")  # type: ignore[arg-type] # stubs want more than a tuple
    assert twin.weight.is_meta
    assert twin.weight.dtype == torch.float64


@pytest.mark.parametrize(
    "geometry", [{"stride": 1}, {"padding": (1, 0)}, {"dilation": 2}, {"groups": 2}]
)
def test_no_other_geometry_is_constructed(geometry: dict[str, Any]) -> None:
    nn.Conv2d(4, 4, 2, **{"stride": 2, **geometry})
    with pytest.raises(ValueError, match="no GemmConv2d can compute this"):
        GemmConv2d(4, 4, 2, **geometry)
