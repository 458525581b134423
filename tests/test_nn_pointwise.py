"""What the convolutions of one position promise alike, against torch's own linear layer."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.export import Dim

from convsurgeon.nn import ChannelNorm, FlatConv1d, FlatConv2d, FlatConv3d, SplitConv
from tests.nn_cases import assert_close, bits

FLATS: dict[int, type[FlatConv1d | FlatConv2d | FlatConv3d]] = {
    1: FlatConv1d,
    2: FlatConv2d,
    3: FlatConv3d,
}
LIMIT = 3
"""Outputs of one part; the layers here have more, and no multiple of it."""


def one(linear: nn.Linear, axes: int, kind: Any) -> nn.Module:
    return FLATS[axes].from_linear(linear, linear.in_features, 1, input=kind)


def parts(linear: nn.Linear, axes: int, kind: Any) -> nn.Module:
    return SplitConv.from_linear(linear, LIMIT, axes, input=kind)


Make = Callable[[nn.Linear, int, str], nn.Module]
MAKES: dict[str, Make] = {"one": one, "parts": parts}
every_make = pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)
every_kind = pytest.mark.parametrize("kind", ["flat", "view", "map"])


def layer(inputs: int = 4, outputs: int = 8, bias: bool = True) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(inputs, outputs, bias, dtype=torch.float64)


def magnitude(linear: nn.Linear, x: Tensor) -> Tensor:
    size = nn.functional.linear(x.abs(), linear.weight.abs())
    return size if "bias" not in dict(linear.named_parameters()) else size + linear.bias.abs()


def watch(conv: nn.Conv2d) -> list[Tensor]:
    """Note what goes into a convolution itself."""
    seen: list[Tensor] = []
    original = conv._conv_forward

    def convolve(x: Tensor, *rest: Any) -> Tensor:
        seen.append(x)
        out: Tensor = original(x, *rest)
        return out

    vars(conv)["_conv_forward"] = convolve
    return seen


@settings(max_examples=15)
@given(
    lead=st.lists(st.integers(0, 3), max_size=5),
    axes=st.integers(1, 3),
    turned=st.booleans(),
    bias=st.booleans(),
)
@every_make
@pytest.mark.parametrize("kind", ["flat", "view"])
def test_rows_of_any_number_of_axes(
    make: Make, kind: str, lead: list[int], axes: int, turned: bool, bias: bool
) -> None:
    linear = layer(bias=bias)
    x = torch.randn(*lead, 4, dtype=torch.float64)
    if turned and len(lead) > 1:
        x = x.movedim(0, -1).contiguous().movedim(-1, 0)
    got = make(linear, axes, kind)(x)
    assert_close(got, linear(x), magnitude(linear, x), linear.in_features)
    if kind == "flat":
        assert got.is_contiguous()
        assert got.view(-1).numel() == got.numel()


@every_make
@pytest.mark.parametrize("shape", [(2, 4, 1, 5), (2, 4, 3, 5), (4, 3, 5), (0, 4, 1, 2)])
def test_maps(make: Make, shape: tuple[int, ...]) -> None:
    linear = layer()
    x = torch.randn(shape, dtype=torch.float64)
    rows = x.movedim(-3, -1)
    got = make(linear, 2, "map")(x).movedim(-3, -1)
    assert_close(got, linear(rows), magnitude(linear, rows), linear.in_features)


@every_make
def test_a_view_of_a_map_goes_in_and_out_without_a_copy(make: Make) -> None:
    """Between two such layers the tensors lie in memory as convolutions want them."""
    module = make(layer(), 2, "view")
    seen = watch(next(m for m in module.modules() if isinstance(m, nn.Conv2d)))
    rows = torch.randn(2, 4, 1, 5, dtype=torch.float64).squeeze(2).transpose(1, 2)
    out = module(rows)
    assert seen[0].data_ptr() == rows.data_ptr()
    assert seen[0].shape == (2, 4, 1, 5)
    assert seen[0].is_contiguous()
    assert out.transpose(1, 2).is_contiguous()
    assert torch.relu(out).transpose(1, 2).is_contiguous()
    assert module(rows.contiguous()).transpose(1, 2).is_contiguous()
    assert seen[1].is_contiguous()


def test_rows_are_positions_and_a_batch_stays_a_batch() -> None:
    module = FlatConv2d(4, 8, 1)
    seen = watch(module)
    for size, maps in (
        ((2, 5, 4), (2, 4, 1, 5)),
        ((2, 4), (2, 4, 1, 1)),
        ((4,), (1, 4, 1, 1)),
        ((2, 3, 5, 4), (2, 4, 3, 5)),
        ((2, 6, 3, 5, 4), (2, 4, 18, 5)),
    ):
        x = torch.randn(size)
        module(x)
        assert seen[-1].shape == maps
        assert seen[-1].data_ptr() == x.data_ptr()


def shaped(kind: str) -> Tensor:
    size = (2, 4, 1, 5) if kind == "map" else (2, 5, 4)
    return torch.randn(size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@every_make
@every_kind
def test_gradients_of_both_orders(make: Make, kind: str) -> None:
    module = make(layer(3, 4), 2, kind)
    x = torch.randn((1, 3, 1, 2) if kind == "map" else (1, 2, 3), dtype=torch.float64)
    names, values = zip(*((n, p.detach()) for n, p in module.named_parameters()), strict=True)

    def function(x: Tensor, *parameters: Tensor) -> Tensor:
        state = dict(zip(names, parameters, strict=True))
        out: Tensor = torch.func.functional_call(module, state, (x,))
        return out

    leaves = tuple(value.clone().requires_grad_() for value in (x, *values))
    assert torch.autograd.gradcheck(function, leaves)
    assert torch.autograd.gradgradcheck(function, leaves)


@every_make
@every_kind
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtypes_follow(make: Make, kind: str, dtype: torch.dtype) -> None:
    module = make(layer(), 2, kind).to(dtype)
    assert module(shaped(kind).to(dtype)).dtype == dtype
    with pytest.raises(RuntimeError):
        module(shaped(kind))


@every_make
@every_kind
def test_autocast(make: Make, kind: str) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert make(layer(), 2, kind).float()(shaped(kind).float()).dtype == torch.bfloat16


@every_make
@every_kind
def test_copies_compute_the_same(make: Make, kind: str) -> None:
    module, x = make(layer(), 2, kind).eval(), shaped(kind)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert type(twin) is type(module)
        assert twin.input == kind
        assert not twin.training
        assert torch.equal(twin(x), module(x))


@every_make
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bias", [True, False])
def test_there_and_back_keeps_every_bit(
    make: Make, memory: torch.memory_format, bias: bool
) -> None:
    linear = layer(bias=bias).float().eval()
    random = torch.randint(-(2**31), 2**31 - 1, (8, 4), dtype=torch.int32)
    linear.weight = nn.Parameter(random.view(torch.float32), requires_grad=False)
    module: Any = make(linear, 2, "map")
    for parameter in module.parameters():
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=memory)
    assert torch.equal(bits(module.weight).flatten(1), random)
    back = module.to_linear()
    assert type(back) is nn.Linear
    assert repr(back) == repr(linear)
    assert torch.equal(bits(back.weight), random)
    if bias:
        assert torch.equal(back.bias, linear.bias)
        assert back.bias.requires_grad
    assert not back.weight.requires_grad
    assert not back.training


def test_the_parts_are_rows_in_order_over_the_same_memory() -> None:
    linear = layer().eval()
    linear.weight.requires_grad = False
    split = SplitConv.from_linear(linear, LIMIT)
    sizes = {"parts.0": 3, "parts.1": 3, "parts.2": 2}
    want = {f"{n}.weight": (s, 4, 1, 1) for n, s in sizes.items()} | {
        f"{n}.bias": (s,) for n, s in sizes.items()
    }
    assert {n: tuple(t.shape) for n, t in split.state_dict().items()} == want
    weights = [part.weight for part in split.convs]
    assert torch.equal(torch.cat(weights).flatten(1), linear.weight)
    starts = [weight.data_ptr() - linear.weight.data_ptr() for weight in weights]
    assert starts == [0, 3 * 4 * 8, 6 * 4 * 8]
    assert {type(part) for part in split.convs} == {nn.Conv2d}
    assert {weight.requires_grad for weight in weights} == {False}
    assert not split.training
    assert (split.in_features, split.out_features, split.kernel_size) == (4, 8, (1, 1))
    assert split.bias is not None
    assert torch.equal(split.bias, linear.bias)
    assert SplitConv(4, 8, LIMIT, bias=False).bias is None
    assert repr(split).startswith("SplitConv(\n  4, 8, max_channels=3, input='flat'")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda parts: parts[0].requires_grad_(requires_grad=False),
            "some parts of the weight take",
        ),
        (lambda parts: parts.append(nn.Conv2d(4, 1, 1)), "its parts have 9 outputs, not 8"),
        (lambda parts: parts.__setitem__(1, nn.Identity()), "exactly Conv2d"),
        (lambda parts: parts[2].register_forward_hook(print), "_forward_hooks"),
    ],
)
def test_parts_that_were_changed_are_not_joined(
    change: Callable[[Any], object], message: str
) -> None:
    split = SplitConv.from_linear(layer(), LIMIT)
    change(split.parts)
    with pytest.raises(ValueError, match=message):
        split.to_linear()


@every_make
@pytest.mark.parametrize("kind", ["flat", "view"])
@pytest.mark.parametrize("shape", [(8,), (2, 2), (4, 5), (), (0,)])
def test_wrong_features_are_refused(make: Make, kind: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError, match="expected rows of 4 features"):
        make(layer(), 2, kind)(torch.ones(shape, dtype=torch.float64))


@every_make
def test_wrong_maps_are_refused(make: Make) -> None:
    for shape in ((2, 5, 1, 4), (2, 5, 4), (4,)):
        with pytest.raises(RuntimeError):
            make(layer(), 2, "map")(torch.ones(shape, dtype=torch.float64))


@every_make
@every_kind
def test_one_graph_for_all_sizes(make: Make, kind: str) -> None:
    torch._dynamo.reset()
    module = make(layer(), 2, kind)
    compiled: Any = torch.compile(module, backend="eager", fullgraph=True, dynamic=True)
    for size in ((2, 4, 3, 5), (7, 4, 2, 6)):
        x = torch.randn(size, dtype=torch.float64)
        x = x if kind == "map" else x.flatten(2).mT.contiguous()
        assert torch.equal(compiled(x), module(x))


@every_make
@pytest.mark.parametrize("kind", ["flat", "view"])
def test_one_graph_for_rows_that_a_mask_leaves(make: Make, kind: str) -> None:
    """Their number is not known to the compiler, as that of an expert's tokens is not."""
    torch._dynamo.reset()
    module = make(layer(), 2, kind)

    def masked(x: Tensor, mask: Tensor) -> Tensor:
        out: Tensor = module(x[mask])
        return out

    x = torch.randn(6, 4, dtype=torch.float64)
    with torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        compiled: Any = torch.compile(masked, backend="eager", fullgraph=True)
        for mask in (x[:, 0] > 0, x[:, 0] > 9):
            assert torch.equal(compiled(x, mask), masked(x, mask))


@every_make
@every_kind
def test_export_with_dynamic_sizes(make: Make, kind: str) -> None:
    module, x = make(layer(), 2, kind), shaped(kind)
    moving = (0, 3) if kind == "map" else (0, 1)
    program = torch.export.export(
        module, (x,), dynamic_shapes={"input": dict.fromkeys(moving, Dim.DYNAMIC)}
    )
    convs = [n for n in program.graph.nodes if n.target is torch.ops.aten.conv2d.default]
    assert len(convs) == (1 if make is one else 3)
    assert [n.args[0].meta["val"].shape[1:3] for n in convs] == [(4, 1)] * len(convs)
    other = torch.cat([x, x, x], dim=moving[1])
    assert torch.equal(program.module()(other), module(other))


@every_make
@every_kind
def test_symbolic_trace_and_vmap(make: Make, kind: str) -> None:
    module, x = make(layer(), 2, kind), shaped(kind)
    assert torch.equal(torch.fx.symbolic_trace(nn.Sequential(module))(x), module(x))
    got = torch.func.vmap(module)(torch.stack([x, -x]))
    assert torch.allclose(got, torch.stack([module(x), module(-x)]), rtol=1e-12)


@every_make
def test_taking_over_draws_no_random_numbers_and_refuses_what_is_odd(make: Make) -> None:
    linear = layer()
    before = torch.get_rng_state()
    make(linear, 2, "map")
    assert torch.equal(before, torch.get_rng_state())
    linear.register_forward_hook(print)
    with pytest.raises(ValueError, match="_forward_hooks"):
        make(linear, 2, "map")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SplitConv(4, 8, 0), "2 axes and 0 channels"),
        (lambda: SplitConv(4, 8, 3, axes=4), "4 axes and 3 channels"),
        (lambda: SplitConv(4, 8, 3, input="rows"), "input must be one of"),  # type: ignore[arg-type] # tested
        (lambda: ChannelNorm(4, input="flat"), "input must be one of"),  # type: ignore[arg-type] # tested
        (lambda: ChannelNorm(4, axes=0), "axes must be 1 to 3"),
        (lambda: ChannelNorm.from_norm(nn.LayerNorm((2, 4))), "it normalises 2 axes"),
        (lambda: ChannelNorm.from_norm(nn.Linear(4, 4)), "not exactly LayerNorm"),
    ],
)
def test_what_makes_no_sense(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
