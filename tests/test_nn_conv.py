from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from convsurgeon.nn import FlatConv1d, FlatConv2d, FlatConv3d
from tests.nn_cases import Case, assert_close, bits, cases, set_memory

FlatConv = FlatConv1d | FlatConv2d | FlatConv3d
FLATS: dict[int, type[FlatConv]] = {1: FlatConv1d, 2: FlatConv2d, 3: FlatConv3d}


def build(case: Case) -> tuple[nn.Linear, FlatConv]:
    torch.manual_seed(case.seed)
    features = case.channels * torch.Size(case.kernel).numel()
    linear = nn.Linear(features, case.out, bias=case.bias, dtype=torch.float64)
    return linear, FLATS[len(case.kernel)].from_linear(linear, case.channels, case.kernel)


def magnitude(linear: nn.Linear, x: Tensor) -> Tensor:
    absolute = copy.deepcopy(linear)
    with torch.no_grad():
        for parameter in absolute.parameters():
            parameter.abs_()
    return torch.as_tensor(absolute(x.abs()))


@settings(deadline=None, max_examples=60)
@given(case=cases(), lead=st.lists(st.integers(0, 3), max_size=3))
def test_flat_keeps_the_linear_contract(case: Case, lead: list[int]) -> None:
    linear, conv = build(case)
    x = torch.randn(*lead, linear.in_features, dtype=torch.float64)
    assert_close(conv(x), linear(x), magnitude(linear, x), linear.in_features)


@settings(deadline=None, max_examples=40)
@given(case=cases())
def test_a_map_is_the_classifier_slid_over_it(case: Case) -> None:
    linear, flat = build(case)
    conv = type(flat).from_linear(linear, case.channels, case.kernel, input="map")
    lead = () if case.batch is None else (case.batch,)
    x = torch.randn(*lead, case.channels, *case.spatial, dtype=torch.float64)
    windows, dims = x, len(case.kernel)
    for axis, size in enumerate(case.kernel):
        windows = windows.unfold(len(lead) + 1 + axis, size, 1)
    rows = windows.movedim(len(lead), -dims - 1).flatten(-dims - 1)
    want, bound = linear(rows), magnitude(linear, rows)
    assert_close(conv(x).movedim(len(lead), -1), want, bound, linear.in_features)


@pytest.mark.parametrize(("channels", "kernel"), [(1, (2, 2)), (4, 1)])
def test_the_two_methods_give_14_9_and_19(channels: int, kernel: int | tuple[int, int]) -> None:
    """The worked example: kernel = the input's size, and 1x1 over the features as channels."""
    linear = nn.Linear(4, 2, dtype=torch.float64)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.1, 1.2, 1.3, 1.4], [1.5, 1.6, 1.7, 1.8]]).double())
        linear.bias.copy_(torch.tensor([1.9, 2.0]).double())
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]], dtype=torch.float64)
    flat = FlatConv2d.from_linear(linear, channels, kernel)
    slid = FlatConv2d.from_linear(linear, channels, kernel, input="map")
    maps = x.reshape(1, channels, *((2, 2) if channels == 1 else (1, 1)))
    for got in (linear(x.flatten(1)), flat(x.flatten(1)), slid(maps).flatten(1)):
        assert [round(v, 5) for v in torch.relu(got).flatten().tolist()] == [14.9, 19.0]
    assert slid(maps).shape == (1, 2, 1, 1)


def test_from_linear_shares_what_it_can() -> None:
    linear = nn.Linear(18, 4).eval()
    linear.weight.requires_grad = False
    conv = FlatConv2d.from_linear(linear, 3, (2, 3))
    assert isinstance(conv, nn.Conv2d)
    assert conv.weight.shape == (4, 3, 2, 3)
    assert conv.weight.data_ptr() == linear.weight.data_ptr()
    assert conv.bias is linear.bias
    assert not conv.weight.requires_grad
    assert not conv.training
    assert (conv.in_features, conv.out_features) == (18, 4)
    assert list(conv.state_dict()) == ["weight", "bias"]
    assert "kernel_size=(2, 3), stride=(1, 1), input='flat'" in repr(conv)


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bias", [True, False])
def test_inverse_keeps_every_bit(memory: torch.memory_format, bias: bool) -> None:
    linear = nn.Linear(18, 4, bias=bias).eval()
    random = torch.randint(-(2**31), 2**31 - 1, (4, 18), dtype=torch.int32)
    linear.weight = nn.Parameter(random.view(torch.float32))
    conv = FlatConv2d.from_linear(linear, 3, (2, 3))
    set_memory(conv, memory)
    back = conv.to_linear()
    assert type(back) is nn.Linear
    assert repr(back) == repr(linear)
    assert torch.equal(bits(back.weight), random)
    assert back.bias is linear.bias
    assert not back.training


@pytest.mark.parametrize("shape", [(36,), (2, 9), (4, 3, 2, 3), (), (0,)])
def test_wrong_features_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError, match="expected rows of 18 features"):
        FlatConv2d(3, 4, (2, 3))(torch.ones(shape))


@pytest.mark.parametrize("shape", [(2, 6, 4, 4), (2, 3, 1, 4), (2, 18)])
def test_wrong_maps_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError):
        FlatConv2d(3, 4, (2, 3), input="map")(torch.ones(shape))


def test_gradients_are_the_linear_layers() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(12, 4, dtype=torch.float64)
    conv = FlatConv2d.from_linear(linear, 3, (2, 2))
    x = torch.randn(5, 12, dtype=torch.float64)
    g = torch.randn(5, 4, dtype=torch.float64)
    mine = torch.autograd.grad(conv(x), conv.weight, g)[0]
    theirs = torch.autograd.grad(linear(x), linear.weight, g)[0]
    assert_close(mine.flatten(1), theirs, g.abs().T @ x.abs(), 5)
    assert torch.autograd.gradcheck(conv, (x.requires_grad_(),))


@pytest.mark.parametrize("mode", ["flat", "map"])
def test_copies_compute_the_same(mode: str) -> None:
    conv = FlatConv1d(3, 4, 2, input=mode)  # type: ignore[arg-type] # one of the two
    x = torch.randn(5, 6) if mode == "flat" else torch.randn(2, 3, 7)
    for twin in (copy.deepcopy(conv), pickle.loads(pickle.dumps(conv))):
        assert twin.input == mode
        assert torch.equal(twin(x), conv(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_dtypes_and_autocast(dtype: torch.dtype) -> None:
    conv = FlatConv2d(3, 4, 2, dtype=dtype)
    assert conv(torch.ones(2, 12, dtype=dtype)).dtype == dtype
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert FlatConv2d(3, 4, 2)(torch.ones(2, 12)).dtype == torch.bfloat16


def test_the_mode_is_one_of_three() -> None:
    with pytest.raises(ValueError, match="must be one of"):
        FlatConv2d(3, 4, 2, input="auto")  # type: ignore[arg-type] # what is tested
    with pytest.raises(ValueError, match="a kernel of one position, not 2"):
        FlatConv2d(3, 4, 2, input="view")
