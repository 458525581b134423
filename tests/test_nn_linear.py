from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convsurgeon.nn import LAYOUTS, PatchLinear, patchify
from tests.nn_cases import bits, make_conv, set_memory

both = pytest.mark.parametrize("layout", LAYOUTS)
kernels = pytest.mark.parametrize("kernel", [(3,), (2, 3), (2, 1, 3)])


class Int8(nn.Module):
    """Stands for what 8-bit libraries put in the place of an nn.Linear."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("weight", linear.weight.detach().to(torch.int8))
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.weight, Tensor)
        rows = x.view(-1, x.shape[-1])  # as their kernels do, which fails on strided rows
        out = nn.functional.linear(rows, self.weight.to(x.dtype), self.bias)
        return out.view(*x.shape[:-1], -1)


class Packed(Int8):
    """Stands for 4-bit layers: two numbers in a byte, in one long column."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        self.weight = torch.zeros(linear.weight.numel() // 2, 1, dtype=torch.uint8)


class Methods(nn.Module):
    """Stands for torch.ao's quantised layers, whose weight and bias are methods."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.inner = Int8(linear)

    def weight(self) -> Tensor | nn.Module:
        return self.inner.weight

    def bias(self) -> Tensor:
        return self.inner.bias


class NoViews(Tensor):
    """Stands for tensor subclasses that know no views, as of torchao."""

    error: type[Exception]

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.unflatten:
            raise cls.error
        plain: Any = super().__torch_function__
        return plain(func, types, args, kwargs or {})


def test_keys_and_attributes() -> None:
    module = PatchLinear.from_conv(make_conv((2, 3)).eval())
    assert {k: tuple(v.shape) for k, v in module.state_dict().items()} == {
        "linear.weight": (4, 18),
        "linear.bias": (4,),
    }
    assert type(module.linear) is nn.Linear
    assert (module.in_channels, module.out_channels) == (3, 4)
    assert module.kernel_size == module.stride == (2, 3)
    assert module.padding == (0, 0)
    assert module.dilation == (1, 1)
    assert (module.groups, module.padding_mode, module.layout) == (1, "zeros", "c p1 p2")
    assert not module.training
    assert not module.linear.training
    assert "kernel_size=(2, 3), stride=(2, 3), layout='c p1 p2'" in repr(module)


def test_a_smaller_stride_cannot_be_set() -> None:
    with pytest.raises(AttributeError):
        PatchLinear(3, 4, (2, 2)).stride = (1, 1)  # type: ignore[misc] # what is tested


@both
@kernels
def test_inner_columns_are_in_the_layouts_order(kernel: tuple[int, ...], layout: str) -> None:
    conv = make_conv(kernel)
    module = PatchLinear.from_conv(conv, layout)
    assert torch.equal(module.linear.weight, patchify(conv.weight, kernel, layout).flatten(1))
    assert torch.equal(module.weight, conv.weight)
    assert module.bias is conv.bias


@pytest.mark.parametrize(
    ("layout", "memory"),
    [("c p1 p2", torch.contiguous_format), ("p1 p2 c", torch.channels_last)],
)
def test_storage_is_shared_where_it_can_be(layout: str, memory: torch.memory_format) -> None:
    conv = make_conv((2, 2))
    set_memory(conv, memory)
    assert PatchLinear.from_conv(conv, layout).linear.weight.data_ptr() == conv.weight.data_ptr()


@both
def test_writing_through_the_view_reaches_the_inner_weight(layout: str) -> None:
    module = PatchLinear(2, 3, (2, 2), layout=layout)
    values = torch.arange(24.0).reshape(3, 2, 2, 2)
    with torch.no_grad():
        module.weight.copy_(values)
    assert torch.equal(module.to_conv().weight, values)
    module.weight.data.zero_()
    assert not module.linear.weight.any()
    nn.init.ones_(module.weight)
    assert module.linear.weight.sum() == 24


@both
def test_gradients_flow_through_the_view(layout: str) -> None:
    module = PatchLinear(2, 3, (2, 2), layout=layout)
    inner = module.linear.weight
    (grad,) = torch.autograd.grad((module.weight**2).sum(), inner)
    assert torch.equal(grad, 2 * inner)


@both
@kernels
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_inverse_keeps_every_bit(kernel: tuple[int, ...], layout: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    conv = make_conv(kernel, dtype=dtype).eval()
    raw = bits(conv.weight)
    info = torch.iinfo(raw.dtype)
    # Random bits: NaN with payloads, signalling ones too, infinities, subnormal numbers, -0.
    random = torch.randint(info.min, info.max, raw.shape, dtype=raw.dtype)
    conv.weight = nn.Parameter(random.view(dtype), requires_grad=False)
    back = PatchLinear.from_conv(conv, layout).to_conv()
    assert type(back) is type(conv)
    assert repr(back) == repr(conv)
    assert torch.equal(bits(back.weight), random)
    assert back.weight.is_contiguous()
    assert not back.weight.requires_grad
    assert not back.training
    assert back.bias is conv.bias


def test_without_bias() -> None:
    module = PatchLinear.from_conv(make_conv((2, 2), bias=False))
    assert module.bias is None
    assert list(module.state_dict()) == ["linear.weight"]
    assert module.to_conv().bias is None


@pytest.mark.parametrize("inner", [Int8, Packed, Methods])
def test_a_quantised_inner_layer_does_not_change_the_reported_dtype(inner: Any) -> None:
    """Models cast their input to `proj.weight.dtype`; int8 pixels would be silently wrong."""
    module = PatchLinear(3, 4, (2, 2))
    bias = module.bias
    module.linear = inner(module.linear)
    for dtype in (torch.float32, torch.bfloat16):
        module.to(dtype)
        assert module.weight.dtype == dtype
        assert module.weight.shape == (4, 3, 2, 2)
        assert module.weight.device.type == "cpu"
        assert module.weight.isnan().all()
    assert module.bias is bias
    assert list(module.state_dict()) == [f"linear.{key}" for key in module.linear.state_dict()]
    with pytest.raises(ValueError, match="not exactly Linear"):
        module.to_conv()


@pytest.mark.parametrize("kernel", [(1, 1), (2, 2), (5, 5)])
@both
def test_a_quantised_inner_layer_is_fed_contiguous_rows(
    kernel: tuple[int, int], layout: str
) -> None:
    torch.manual_seed(0)
    conv = make_conv(kernel, bias=False)
    with torch.no_grad():
        conv.weight.mul_(100).round_()  # what int8 holds exactly
    module = PatchLinear.from_conv(conv, layout)
    x = torch.randint(-9, 9, (2, 3, 10, 11)).float()
    want = module(x)
    inner: Any = Int8(module.linear)
    module.linear = inner
    assert torch.equal(module(x), want)  # sums of whole numbers, exact in any order
    rows = torch.randint(-9, 9, (3 * math.prod(kernel), 5)).float().T
    assert torch.equal(module.forward_patches(rows), rows @ inner.weight.float().T)


@pytest.mark.parametrize("error", [NotImplementedError, AssertionError, TypeError])
def test_a_weight_that_knows_no_views(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NoViews, "error", error, raising=False)
    module = PatchLinear(3, 4, (2, 2), dtype=torch.float16)
    module.linear.weight = nn.Parameter(torch.ones(4, 12).half().as_subclass(NoViews))
    assert module.weight.dtype == torch.float16
    assert module.weight.shape == (4, 3, 2, 2)


def test_eight_bit_floats_are_storage() -> None:
    module = PatchLinear(3, 4, (2, 2), dtype=torch.bfloat16)
    stored = module.linear.weight.detach().to(torch.float8_e4m3fn)
    module.linear.weight = nn.Parameter(stored, requires_grad=False)
    assert module.weight.dtype == torch.bfloat16


def test_the_inner_layer_is_fed_rows_of_features() -> None:
    module = PatchLinear(3, 4, (2, 2))
    seen: list[torch.Size] = []
    module.linear.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape))
    module(torch.ones(5, 3, 4, 7))
    module(torch.ones(3, 4, 7))
    assert seen == [(5, 6, 12), (1, 6, 12)]


def test_on_the_meta_device() -> None:
    module = PatchLinear.from_conv(make_conv((2, 2), device="meta"))
    assert module.weight.is_meta
    assert module.to_conv().weight.is_meta
    assert module(torch.empty(2, 3, 5, 5, device="meta")).shape == (2, 4, 2, 2)
    assert not module.to_empty(device="cpu").weight.is_meta
