"""Rows of the table that take long, or need what the extra `integrations` has not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim

import convsurgeon as cs
from tests.matrix import works
from tests.matrix_models import apart, inputs, outputs
from tests.test_matrix_capture import CONVS, ROUNDING, Logits, images
from tests.test_matrix_quantisers import (
    NAME,
    PROJECTION,
    check,
    every_config,
    lost,
    model,
    projection,
    replaced,
    torchao,
)

__all__ = ["torchao"]  # a fixture

pytestmark = [
    pytest.mark.long,
    # Of what inductor imports, and of its search for a compiler.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
inductor = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")


@works("compile")
@inductor
def test_a_whole_model_is_compiled(kind: str) -> None:
    torch._dynamo.reset()
    compiled: Any = torch.compile(model(kind), fullgraph=True)
    got, want = (outputs(one, inputs(NAME)) for one in (compiled, model("conv")))
    assert apart(got, want) < ROUNDING


@works("torchao-compile")
@inductor
@every_config
def test_a_quantised_model_is_compiled(kind: str, config: Any, torchao: Any) -> None:
    torch._dynamo.reset()
    quantised = model(kind)
    torchao.quantize_(quantised, config(torchao))
    compiled: Any = torch.compile(quantised, fullgraph=True)
    got = outputs(compiled, inputs(NAME))
    # A number on the border between two codes of 8 bits may fall to either side.
    assert apart(got, outputs(quantised, inputs(NAME))) < 0.1
    assert apart(got, outputs(model(kind), inputs(NAME))) < 0.5


@works("onnx")
@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning")  # torch's own
@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects:UserWarning")
def test_a_whole_model_in_onnx(kind: str, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="reads what was exported")
    runtime = pytest.importorskip("onnxruntime", reason="runs what was exported")
    pytest.importorskip("onnxscript", reason="torch exports through it")
    file, dynamic = str(tmp_path / "model.onnx"), {"pixels": {0: Dim.DYNAMIC}}
    options: dict[str, Any] = {"dynamo": True, "dynamic_shapes": dynamic, "verbose": False}
    torch.onnx.export(Logits(kind).eval(), (images(2),), file, **options)
    operators = [node.op_type for node in onnx.load(file).graph.node]
    assert operators.count("Conv") == CONVS[kind]
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for batch in (1, 2, 5):
        (got,) = session.run(None, {"pixels": images(batch).numpy()})
        with torch.no_grad():
            want = Logits("conv")(images(batch))
        assert float((torch.from_numpy(got) - want).abs().max()) < 10 * ROUNDING


def eight_bits(bnb: Any, linear: nn.Linear) -> Any:
    bias = linear.bias is not None
    new = bnb.nn.Linear8bitLt(linear.in_features, linear.out_features, bias, has_fp16_weights=False)
    weight = linear.weight.detach().clone()
    new.weight = bnb.nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    new.bias = linear.bias
    return new


def four_bits(bnb: Any, linear: nn.Linear) -> Any:
    bias = linear.bias is not None
    new = bnb.nn.Linear4bit(linear.in_features, linear.out_features, bias, quant_type="nf4")
    weight = linear.weight.detach().clone()
    new.weight = bnb.nn.Params4bit(weight, requires_grad=False, quant_type="nf4")
    new.bias = linear.bias
    return new


@works("bitsandbytes")
@pytest.mark.parametrize("make", [eight_bits, four_bits])
def test_bitsandbytes(kind: str, make: Any) -> None:
    bnb = pytest.importorskip("bitsandbytes", reason="its layers are what is tested")
    quantised = replaced(model(kind), lambda linear: make(bnb, linear)).to("cpu")
    if make is eight_bits:
        check(kind, quantised)
    inner = getattr(projection(quantised), "linear", None)
    if kind == "linear":
        assert isinstance(inner, (bnb.nn.Linear8bitLt, bnb.nn.Linear4bit))
        assert inner.weight.dtype in (torch.int8, torch.uint8)
        assert 1e-3 < lost(kind, quantised) < 0.2  # 16 values for 4 bits
    assert projection(quantised).weight.dtype == torch.float32
    assert {row.module for row in cs.restore_module(quantised).refused} <= {PROJECTION}
