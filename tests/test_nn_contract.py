"""What the replacements of a convolution promise alike, against torch's own convolution."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from tests.nn_cases import (
    KINDS,
    Case,
    absolute,
    assert_close,
    cases,
    make_conv,
    products,
    replacement,
    set_memory,
)

pytestmark = pytest.mark.parametrize("kind", KINDS)


@settings(deadline=None, max_examples=60)
@given(case=cases())
def test_forward_is_the_convolution(case: Case, kind: str) -> None:
    conv, x = case.build()
    with torch.no_grad():
        magnitude = absolute(conv)(x.abs())
        assert_close(replacement(kind, conv)(x), conv(x), magnitude, products(conv))


def gradients(module: nn.Module, x: Tensor, g: Tensor) -> list[Tensor]:
    """Return the gradients of sum(g * module(x)): of the input, the weight, the bias."""
    leaf = x.clone().requires_grad_()
    return list(torch.autograd.grad(module(leaf), [leaf, *module.parameters()], g))


@settings(deadline=None, max_examples=40)
@given(case=cases())
def test_gradients_are_the_convolutions(case: Case, kind: str) -> None:
    conv, x = case.build()
    module = replacement(kind, conv)
    g = torch.randn_like(conv(x))
    mine, theirs = gradients(module, x, g), gradients(conv, x, g)
    if kind != "gemm":
        mine[1] = unflatten(mine[1], conv.weight, kind)
    # Each gradient is linear in g, x and the weight, so that absolute values give its magnitude.
    sizes = gradients(absolute(conv), x.abs(), g.abs())
    windows = g.numel() // conv.out_channels
    terms = [conv.out_channels, windows, windows][: len(theirs)]
    for got, want, size, n in zip(mine, theirs, sizes, terms, strict=True):
        assert_close(got, want, size, n)


def unflatten(grad: Tensor, like: Tensor, layout: str) -> Tensor:
    out, channels, *kernel = like.shape
    if layout == "c p1 p2":
        return grad.reshape(like.shape)
    return grad.reshape(out, *kernel, channels).movedim(-1, 1)


@pytest.mark.parametrize("kernel", [(3,), (2, 3), (2, 1, 3)])
def test_double_backward(kind: str, kernel: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    module = replacement(kind, make_conv(kernel, 2, 2, dtype=torch.float64))
    x = torch.randn(1, 2, *(k + 1 for k in kernel), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (x,))
    assert torch.autograd.gradgradcheck(module, (x,))


@pytest.mark.parametrize("of", ["input", "weight", "both"])
def test_channels_last(kind: str, of: str) -> None:
    torch.manual_seed(0)
    conv = make_conv((2, 3), dtype=torch.float64)
    x = torch.randn(2, 3, 7, 9, dtype=torch.float64)
    want, magnitude = conv(x), absolute(conv)(x.abs())
    if of != "input":
        set_memory(conv, torch.channels_last)
    if of != "weight":
        x = x.to(memory_format=torch.channels_last)
    assert_close(replacement(kind, conv)(x), want, magnitude, products(conv))


def test_any_strides(kind: str) -> None:
    torch.manual_seed(0)
    conv = make_conv((2, 3), dtype=torch.float64)
    x = (
        torch.randn(9, 14, 3, 1, dtype=torch.float64)
        .permute(3, 2, 0, 1)[..., ::2]
        .expand(4, -1, -1, -1)
    )
    assert_close(replacement(kind, conv)(x), conv(x), absolute(conv)(x.abs()), products(conv))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_dtypes_follow(kind: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    module = replacement(kind, make_conv((2, 2))).to(dtype)
    assert module(torch.randn(1, 3, 5, 4, dtype=dtype)).dtype == dtype
    assert module.weight.dtype == dtype
    with pytest.raises(RuntimeError):
        module(torch.randn(1, 3, 5, 4))


def test_autocast(kind: str) -> None:
    conv = make_conv((2, 2))
    x = torch.randn(1, 3, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert replacement(kind, conv)(x).dtype == conv(x).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        # Twice the channels of half the size: a reshape alone would accept it.
        ((2, 6, 4, 4), "expected an input with 3 channels, but got 6"),
        ((6, 4, 4), "expected an input with 3 channels, but got 6"),
        ((2, 0, 4, 4), "expected an input with 3 channels, but got 0"),
        ((2, 3, 1, 4), "kernel .* is larger than the input"),
        ((0, 3, 4, 1), "kernel .* is larger than the input"),
        ((3, 4), "expected 3 axes .unbatched. or 4 .batched."),
        ((1, 1, 3, 4, 4), "expected 3 axes .unbatched. or 4 .batched."),
    ],
)
def test_what_the_convolution_refuses(kind: str, shape: tuple[int, ...], message: str) -> None:
    conv = make_conv((2, 2))
    with pytest.raises(RuntimeError):
        conv(torch.ones(shape))
    with pytest.raises(RuntimeError, match=message):
        replacement(kind, conv)(torch.ones(shape))


def test_copies_compute_the_same(kind: str) -> None:
    module = replacement(kind, make_conv((2, 2)).eval())
    x = torch.randn(2, 3, 5, 5)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert type(twin) is type(module)
        assert not twin.training
        assert torch.equal(twin(x), module(x))
        assert twin.weight.data_ptr() != module.weight.data_ptr()


def test_taking_over_draws_no_random_numbers(kind: str) -> None:
    conv = make_conv((2, 2))
    before = torch.get_rng_state()
    replacement(kind, conv)
    assert torch.equal(before, torch.get_rng_state())


def test_the_result_is_in_token_order(kind: str) -> None:
    y = replacement(kind, make_conv((2, 2)))(torch.randn(2, 3, 8, 8))
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert y.flatten(2).transpose(1, 2).is_contiguous()


@pytest.mark.parametrize("rest", [{"padding": "valid"}, {"padding_mode": "circular"}])
def test_ways_to_say_no_padding(kind: str, rest: dict[str, Any]) -> None:
    torch.manual_seed(0)
    conv = make_conv((2, 2), dtype=torch.float64, **rest)
    x = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    assert_close(replacement(kind, conv)(x), conv(x), absolute(conv)(x.abs()), products(conv))


def test_vmap(kind: str) -> None:
    torch.manual_seed(0)
    conv = make_conv((2, 2), dtype=torch.float64)
    x = torch.randn(4, 2, 3, 5, 5, dtype=torch.float64)
    got = torch.func.vmap(replacement(kind, conv))(x)
    for row, maps in zip(got, x, strict=True):
        assert_close(row, conv(maps), absolute(conv)(maps.abs()), products(conv))


@pytest.mark.parametrize("lead", [(), (4,), (2, 0), (2, 3, 4)])
def test_patches_that_were_cut_already(kind: str, lead: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    conv = make_conv((2, 3), dtype=torch.float64)
    maps = torch.randn(*lead, 3, 2, 3, dtype=torch.float64)
    rows = (maps if kind != "p1 p2 c" else maps.movedim(-3, -1)).flatten(-3)
    got = replacement(kind, conv).forward_patches(rows)
    want = conv(maps.reshape(-1, 3, 2, 3)).reshape(*lead, 4)
    magnitude = absolute(conv)(maps.abs().reshape(-1, 3, 2, 3)).reshape(*lead, 4)
    assert_close(got, want, magnitude, products(conv))


@pytest.mark.parametrize("shape", [(), (17,), (19,), (2, 36), (3, 2, 3)])
def test_patches_of_another_length(kind: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError, match="expected rows of 18 features"):
        replacement(kind, make_conv((2, 3))).forward_patches(torch.ones(shape))
