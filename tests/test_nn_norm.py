"""`ChannelNorm` against torch's own layer norm, over channels that come first."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from convsurgeon.nn import ChannelNorm

every_input = pytest.mark.parametrize("kind", ["map", "view"])


def norm(dtype: torch.dtype = torch.float64, **options: Any) -> nn.LayerNorm:
    torch.manual_seed(0)
    made = nn.LayerNorm(6, dtype=dtype, **options)
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    return made


def apply(module: nn.Module, rows: Tensor, kind: str, axes: int = 2) -> Tensor:
    """Give rows `[B, S, C]` to a module as what it takes, and see what it gives as rows."""
    if kind == "view":
        return torch.as_tensor(module(rows))
    maps = rows.mT.reshape(rows.shape[0], rows.shape[2], *(1,) * (axes - 1), rows.shape[1])
    return torch.as_tensor(module(maps)).flatten(2).mT


@every_input
@settings(max_examples=20)
@given(
    affine=st.booleans(),
    bias=st.booleans(),
    eps=st.sampled_from([1e-12, 1e-5, 0.5]),
    axes=st.integers(1, 3),
    far=st.sampled_from([0, 1000]),
)
def test_it_is_a_layer_norm(
    kind: Any, affine: bool, bias: bool, eps: float, axes: int, far: int
) -> None:
    plain = norm(elementwise_affine=affine, bias=bias, eps=eps)
    module = ChannelNorm.from_norm(plain, axes, input=kind)
    rows = torch.randn(2, 5, 6, dtype=torch.float64) + far
    # Two ways to take a mean of numbers of this size differ by so many units in the last place.
    close = 64 * (1 + far) * 2.0**-52 * max(1.0, eps**-0.5 * 0.01)
    assert torch.allclose(apply(module, rows, kind, axes), plain(rows), rtol=0, atol=close)
    back = module.to_norm()
    assert (type(back), repr(back)) == (nn.LayerNorm, repr(plain))
    assert [id(p) for p in back.parameters()] == [id(p) for p in plain.parameters()]


@every_input
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_is_normalised_in_float32(kind: Any, dtype: torch.dtype) -> None:
    plain = norm(dtype)
    module = ChannelNorm.from_norm(plain, input=kind)
    rows = (torch.randn(2, 5, 6) * 50 + 200).to(dtype)
    got, want = apply(module, rows, kind), plain(rows)
    assert got.dtype == dtype
    assert torch.allclose(got.double(), want.double(), rtol=2 * torch.finfo(dtype).eps, atol=1e-3)


def test_rows_come_out_as_a_view_of_maps() -> None:
    module = ChannelNorm.from_norm(norm(), input="view")
    rows = torch.randn(2, 5, 6, dtype=torch.float64)
    for x in (rows, rows.mT.contiguous().mT):
        assert module(x).mT.is_contiguous()


@every_input
def test_gradients_copies_and_capture(kind: Any) -> None:
    torch._dynamo.reset()
    module = ChannelNorm.from_norm(norm().eval(), input=kind)
    x = torch.randn((2, 6, 1, 3) if kind == "map" else (2, 3, 6), dtype=torch.float64)
    assert torch.autograd.gradcheck(module, (x.clone().requires_grad_(),))
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert (type(twin), twin.input, twin.axes, twin.training) == (ChannelNorm, kind, 2, False)
        assert torch.equal(twin(x), module(x))
    compiled: Any = torch.compile(module, backend="eager", fullgraph=True, dynamic=True)
    program = torch.export.export(module, (x,)).module()
    traced = torch.fx.symbolic_trace(nn.Sequential(module))
    for captured in (compiled, program, traced):
        assert torch.equal(captured(x), module(x))
    assert "axes=2" in repr(module)


@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        ("map", (2, 1, 1, 5)),  # one channel would be spread over all of the weight's
        ("map", (2, 5, 1, 6)),
        ("map", (2, 6)),
        ("map", (2, 6, 1, 1, 5)),
        ("view", (2, 6, 5)),
        ("view", (2, 1)),
    ],
)
def test_what_has_other_channels(kind: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError, match="expected"):
        ChannelNorm.from_norm(norm(), input=kind)(torch.ones(shape, dtype=torch.float64))


def test_an_unbatched_map() -> None:
    module, x = ChannelNorm.from_norm(norm()), torch.randn(6, 2, 5, dtype=torch.float64)
    assert torch.equal(module(x), module(x[None])[0])
