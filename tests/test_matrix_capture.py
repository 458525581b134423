"""A swapped model as a graph: torch.compile, torch.export, ONNX, a symbolic trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from tests.matrix import swapped, works
from tests.matrix_models import apart, build, inputs, outputs

NAME = "ViTForImageClassification"
SIZES = [(2, 3, 17, 18), (5, 3, 21, 32), (1, 3, 8, 11)]
CONVS = {"conv": 1, "gemm": 0, "linear": 0}
ROUNDING = 1e-5  # of outputs up to 3 in float32, in another order of summation


class Patches(nn.Module):
    """A patch embedding as models have it: the layer, then tokens."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.proj = nn.Conv2d(3, 4, 4, 4, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.proj(x)
        return out.flatten(2).transpose(1, 2).relu()


def sizes() -> list[Tensor]:
    """Images of sizes that the kernel divides, or not."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(size, dtype=torch.float64, generator=generator) for size in SIZES]


class Logits(nn.Module):
    """A model that takes and gives one tensor."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.model = swapped(build(NAME), kind)

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.model(pixel_values=pixels).logits
        return logits


def images(batch: int) -> Tensor:
    return torch.randn(batch, 3, 8, 8, generator=torch.Generator().manual_seed(batch))


@works("compile")
def test_a_whole_model_is_one_graph(kind: str) -> None:
    torch._dynamo.reset()
    model: Any = swapped(build(NAME), kind)
    compiled: Any = torch.compile(model, backend="eager", fullgraph=True)
    got = outputs(compiled, inputs(NAME))
    assert apart(got, outputs(build(NAME), inputs(NAME))) < ROUNDING
    with torch.no_grad():
        model.vit.embeddings.patch_embeddings.projection.weight.zero_()
    assert apart(outputs(compiled, inputs(NAME)), got) > 0.1


@works("export")
@pytest.mark.parametrize("strict", [True, False], ids=["strict", "non-strict"])
def test_any_batch_and_size_in_one_program(kind: str, strict: bool) -> None:
    model, (example, *others) = swapped(Patches(), kind), sizes()
    dynamic = {"x": dict.fromkeys((0, 2, 3), Dim.DYNAMIC)}
    program = torch.export.export(model, (example,), dynamic_shapes=dynamic, strict=strict)
    assert len([n for n in program.graph.nodes if "conv" in str(n.target)]) == CONVS[kind]
    for x in (example, *others):
        assert torch.allclose(program.module()(x), Patches()(x), rtol=1e-13, atol=1e-14)


@works("export")
# transformers notes outputs in a global while a model runs, and torch says so.
@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects:UserWarning")
@pytest.mark.parametrize("strict", [True, False], ids=["strict", "non-strict"])
def test_a_whole_model_as_a_program(kind: str, strict: bool) -> None:
    dynamic = {"pixels": {0: Dim.DYNAMIC}}
    program = torch.export.export(
        Logits(kind).eval(), (images(2),), dynamic_shapes=dynamic, strict=strict
    )
    assert len([n for n in program.graph.nodes if "conv" in str(n.target)]) == CONVS[kind]
    for batch in (1, 2, 5):
        with torch.no_grad():
            got, want = program.module()(images(batch)), Logits("conv")(images(batch))
        assert float((got - want).abs().max()) < ROUNDING


@works("onnx")
@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning")  # torch's own
def test_onnx(kind: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="reads what was exported")
    runtime = pytest.importorskip("onnxruntime", reason="runs what was exported")
    pytest.importorskip("onnxscript", reason="torch exports through it")
    model, (example, *others) = (
        swapped(Patches().float().eval(), kind),
        [x.float() for x in sizes()],
    )
    dynamic = {"x": dict.fromkeys((0, 2, 3), Dim.DYNAMIC)}
    file = str(tmp_path / "model.onnx")
    torch.onnx.export(model, (example,), file, dynamo=True, dynamic_shapes=dynamic, verbose=False)
    operators = [node.op_type for node in onnx.load(file).graph.node]
    assert operators.count("Conv") == CONVS[kind]
    assert ("MatMul" in operators or "Gemm" in operators) == (kind != "conv")
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for x in (example, *others):
        (got,) = session.run(None, {"x": x.numpy()})
        with torch.no_grad():
            want = Patches().float()(x)
        assert torch.allclose(torch.from_numpy(got), want, atol=ROUNDING)
        assert want.std() > 0.1


@works("fx")
def test_symbolic_trace(kind: str) -> None:
    x = sizes()[0]
    model: Any = swapped(nn.Sequential(Patches(), nn.Tanh()), kind)
    for module, given in ((model, x), (model[0], x), (model[0].proj, x)):
        traced = torch.fx.symbolic_trace(module)
        assert torch.equal(traced(given), module(given))
        assert torch.equal(traced(given[:1, :, :9]), module(given[:1, :, :9]))
