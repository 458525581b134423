from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from convsurgeon.nn import LAYOUTS, patchify
from convsurgeon.nn.patches import flatten_weight, to_map, to_tokens, unflatten_weight
from tests.nn_cases import Case, cases


def one_patch(x: Tensor, kernel: tuple[int, ...], at: tuple[int, ...], order: str) -> Tensor:
    """Cut one patch `[B, C*prod(kernel)]` out by its definition."""
    patch = x
    for axis, (i, k) in enumerate(zip(at, kernel, strict=True), start=2):
        patch = patch.narrow(axis, i * k, k)
    if order == "p1 p2 c":
        patch = torch.stack(list(patch.unbind(1)), dim=-1)
    return patch.reshape(x.shape[0], x.shape[1] * math.prod(kernel))


@pytest.mark.parametrize("order", LAYOUTS)
@settings(deadline=None, max_examples=40)
@given(case=cases())
def test_each_token_is_its_patch(case: Case, order: str) -> None:
    x = torch.randn(case.batch or 2, case.channels, *case.spatial)
    grid = tuple(s // k for s, k in zip(case.spatial, case.kernel, strict=True))
    tokens = patchify(x, case.kernel, order)
    assert tokens.shape == (x.shape[0], *grid, case.channels * math.prod(case.kernel))
    # The flattened grid counts its last axis fastest, as itertools.product does.
    rows = tokens.flatten(1, -2).unbind(1)
    for row, at in zip(rows, itertools.product(*map(range, grid)), strict=True):
        assert torch.equal(row, one_patch(x, case.kernel, at, order))


def test_the_orders_of_the_docs() -> None:
    x = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert patchify(x, (2, 2)).flatten().tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert patchify(x, (2, 2), "p1 p2 c").flatten().tolist() == [0, 4, 1, 5, 2, 6, 3, 7]


def test_patches_that_are_in_order_already_are_not_copied() -> None:
    whole = torch.randn(5, 3, 2, 4, 4)  # a vision-language model's input: one patch per row
    assert patchify(whole, (2, 4, 4)).data_ptr() == whole.data_ptr()
    pixels = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    assert patchify(pixels, (1, 1)).data_ptr() == pixels.data_ptr()


def test_batch_of_none_keeps_its_grid() -> None:
    assert patchify(torch.empty(0, 3, 9, 5), (4, 2)).shape == (0, 2, 2, 24)


@pytest.mark.parametrize("order", LAYOUTS)
@pytest.mark.parametrize("kernel", [(3,), (2, 3), (2, 3, 1)])
def test_weight_layouts_are_each_others_inverse(kernel: tuple[int, ...], order: str) -> None:
    weight = torch.randn(5, 4, *kernel)
    flat = flatten_weight(weight, order)
    assert torch.equal(flat, patchify(weight, kernel, order).flatten(1))
    back = unflatten_weight(flat, 4, kernel, order)
    assert torch.equal(back, weight)
    assert back.data_ptr() == flat.data_ptr()


def test_tokens_keep_the_batch_first_and_maps_undo_them() -> None:
    x = torch.randn(2, 3, 4, 6)
    tokens = to_tokens(x, 3, (1, 1), "c p1 p2")
    assert tokens.shape == (2, 24, 3)
    assert torch.equal(to_map(tokens, x, (1, 1)), x)
    assert to_tokens(x[0], 3, (1, 1), "c p1 p2").shape == (1, 24, 3)
    assert torch.equal(to_map(tokens[:1], x[0], (1, 1)), x[0])


@pytest.mark.parametrize(
    ("x", "kernel", "order", "error", "message"),
    [
        (torch.ones(1, 3, 4, 4), (2, 2), "p1 c p2", ValueError, "layout must be one of"),
        (torch.ones(3, 4, 4), (2, 2), "c p1 p2", ValueError, "cannot cut 3 axes"),
        (torch.ones(1, 3), (), "c p1 p2", ValueError, "cannot cut 2 axes"),
        (torch.ones(1, 1, 2, 2, 2, 2), (1, 1, 1, 1), "c p1 p2", ValueError, "cannot cut 6 axes"),
        (torch.ones(1, 3, 4, 1), (2, 2), "c p1 p2", RuntimeError, "size 1 along axis 3"),
        (torch.ones(0, 3, 0, 4), (2, 2), "c p1 p2", RuntimeError, "size 0 along axis 2"),
    ],
)
def test_what_cannot_be_cut_is_refused(
    x: Tensor, kernel: tuple[int, ...], order: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        patchify(x, kernel, order)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kernel", [(2,), (6,), (2, 5), (5, 2), (1, 3), (2, 1, 2), (1, 2, 7)])
@pytest.mark.parametrize("order", LAYOUTS)
def test_short_and_long_kernels_give_contiguous_rows(
    kernel: tuple[int, ...], order: str, dtype: torch.dtype
) -> None:
    """Short ones are cut another way; a product is slow over rows that are not contiguous."""
    x = torch.randn(2, 3, *(2 * k + 1 for k in kernel)).to(dtype)
    tokens = patchify(x, kernel, order)
    assert tokens.is_contiguous()
    last = tuple(size - 1 for size in tokens.shape[1:-1])
    assert torch.equal(tokens.flatten(1, -2)[:, -1], one_patch(x, kernel, last, order))


def test_rows_of_one_position_are_a_view_unless_their_floats_are_short() -> None:
    x = torch.randn(2, 3, 4, 5)
    assert patchify(x, (1, 1)).data_ptr() == x.data_ptr()
    short = patchify(x.bfloat16(), (1, 1))
    assert short.is_contiguous()
    assert torch.equal(short, x.bfloat16().permute(0, 2, 3, 1))


@pytest.mark.parametrize("kernel", [(2, 3), (5, 6)])
@pytest.mark.parametrize("order", LAYOUTS)
def test_the_gradient_of_a_cut_puts_each_element_back(kernel: tuple[int, int], order: str) -> None:
    x = torch.randn(2, 3, 2 * kernel[0] + 1, 2 * kernel[1], requires_grad=True)
    (grad,) = torch.autograd.grad(patchify(x, kernel, order), x, patchify(x, kernel, order))
    inside = (..., slice(2 * kernel[0]), slice(None))
    assert torch.equal(grad[inside], x[inside])
    assert not grad[..., -1, :].any()
