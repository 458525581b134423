"""Graph capture: compile, export, symbolic trace."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from convsurgeon.nn import FlatConv2d, GemmConv2d, PatchLinear
from tests.nn_cases import KINDS, absolute, assert_close, make_conv, products, replacement

# Sizes that the kernel divides along both axes, along one, along none; a batch of one.
SIZES = [(2, 3, 17, 18), (2, 3, 16, 16), (5, 3, 21, 32), (1, 3, 9, 19)]


def check(captured: object, conv: nn.Conv2d, x: Tensor) -> None:
    assert callable(captured)
    with torch.no_grad():
        assert_close(captured(x), conv(x), absolute(conv)(x.abs()), products(conv))


def make(*kernel: int) -> nn.Conv2d:
    torch.manual_seed(0)
    conv = make_conv(kernel, dtype=torch.float64)
    assert isinstance(conv, nn.Conv2d)
    return conv


@pytest.mark.parametrize("kind", KINDS)
def test_one_graph_for_all_sizes(kind: str) -> None:
    torch._dynamo.reset()
    conv = make(4, 4)
    compiled = torch.compile(replacement(kind, conv), backend="eager", fullgraph=True, dynamic=True)
    for size in SIZES:
        check(compiled, conv, torch.randn(size, dtype=torch.float64))
    check(compiled, conv, torch.randn(3, 9, 10, dtype=torch.float64))


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inductor's own, as it is imported
@pytest.mark.parametrize("kind", ["gemm", "p1 p2 c"])
def test_inductor(kind: str) -> None:
    torch._dynamo.reset()
    conv = make(4, 4)
    compiled = torch.compile(replacement(kind, conv), fullgraph=True)
    check(compiled, conv, torch.randn(2, 3, 9, 13, dtype=torch.float64))


@pytest.mark.parametrize("example", SIZES[:2])
@pytest.mark.parametrize("kernel", [(4, 4), (2, 8)])
@pytest.mark.parametrize("kind", KINDS)
def test_export_with_dynamic_sizes(
    kind: str, kernel: tuple[int, int], example: tuple[int, ...]
) -> None:
    """The remainder of the example must not be built into the program, whichever it is."""
    conv = make(*kernel)
    dynamic = {"input": dict.fromkeys((0, 2, 3), Dim.DYNAMIC)}
    x = torch.randn(example, dtype=torch.float64)
    module = torch.export.export(replacement(kind, conv), (x,), dynamic_shapes=dynamic).module()
    for size in SIZES:
        check(module, conv, torch.randn(size, dtype=torch.float64))


def test_strict_export_has_no_convolution_left() -> None:
    x = torch.randn(2, 3, 9, 9)
    program = torch.export.export(GemmConv2d(3, 4, 4), (x,), strict=True)
    assert not [node for node in program.graph.nodes if "conv" in str(node.target)]


def test_a_flat_convolution_is_one_convolution() -> None:
    torch._dynamo.reset()
    conv = FlatConv2d(3, 4, (2, 3), dtype=torch.float64)
    compiled = torch.compile(conv, backend="eager", fullgraph=True, dynamic=True)
    program = torch.export.export(
        conv,
        (torch.randn(5, 2, 18, dtype=torch.float64),),
        dynamic_shapes={"input": {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}},
    )
    assert [n for n in program.graph.nodes if n.target is torch.ops.aten.conv2d.default]
    x = torch.randn(3, 7, 18, dtype=torch.float64)
    assert torch.equal(compiled(x), conv(x))
    assert torch.equal(program.module()(x), conv(x))


@pytest.mark.parametrize(
    ("module", "size"),
    [
        (GemmConv2d(3, 4, 2), (2, 3, 5, 6)),
        (PatchLinear(3, 4, (2, 2)), (2, 3, 5, 6)),
        (FlatConv2d(3, 4, 2), (2, 12)),
        (FlatConv2d(3, 4, 2, input="map"), (2, 3, 5, 6)),
    ],
)
def test_symbolic_trace_of_a_model_that_holds_one(module: nn.Module, size: tuple[int, ...]) -> None:
    model = nn.Sequential(module, nn.ReLU())
    x = torch.randn(size)
    assert torch.equal(torch.fx.symbolic_trace(model)(x), model(x))
