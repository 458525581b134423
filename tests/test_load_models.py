"""`load`: layers change their form, everything else about a model stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch as safetensors_torch
import torch
from torch import nn

import convsurgeon as cs
from convsurgeon.nn import FlatConv2d, PatchLinear
from tests.load_cases import Model, close, image, save, surgery

LAYOUTS = ("c p1 p2", "p1 p2 c")
KINDS = ("linear", "gemm")


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_conv_to_linear(dims: int, layout: str, kind: str, tmp_path: Path) -> None:
    original, out = surgery(tmp_path, dims, layout=layout)
    model = Model(dims, seed=1).eval()
    report = cs.load(model, out, kind=kind)
    (row,) = report.replaced
    after = "PatchLinear" if kind == "linear" else f"GemmConv{dims}d"
    assert (row.before, row.after, row.layout) == (f"Conv{dims}d", after, layout)
    assert model.again is model.stems[1]
    assert torch.equal(model.again.weight, original.again.weight)
    assert close(original, model, image(dims))
    if isinstance(model.again, PatchLinear):
        assert model.again.layout == layout


@pytest.mark.parametrize("choices", [{"input_shape": ["head=8x2x2"]}, {"method": "1x1"}])
def test_linear_to_conv(choices: dict[str, Any], tmp_path: Path) -> None:
    original, out = surgery(tmp_path, to="conv", layers=["head"], geometry=[], **choices)
    model = Model(seed=1).eval()
    assert [row.after for row in cs.load(model, out).replaced] == ["FlatConv2d"]
    assert isinstance(model.head, FlatConv2d)
    assert close(original, model, image())
    cs.load(model, out)  # a second time, into what stands there now
    cs.load(model, tmp_path / "in.safetensors")
    assert close(original, model, image())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", LAYOUTS)
@pytest.mark.parametrize("second", LAYOUTS)
def test_every_form_of_file_loads_into_every_drop_in(
    kind: str, first: str, second: str, tmp_path: Path
) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
    _, out = surgery(folders[0], layout=first)
    original, other = surgery(folders[1], layout=second)
    model = Model(seed=1).eval()
    cs.load(model, out, kind=kind)
    for path in (other, folders[1] / "in.safetensors"):
        with torch.no_grad():
            model.again.weight.zero_()
        assert cs.load(model, path).replaced == ()
        assert torch.equal(model.again.weight, original.again.weight)
    own = save(model, tmp_path / "own.safetensors")
    with torch.no_grad():
        model.again.weight.zero_()
    cs.load(model, own)
    assert torch.equal(model.again.weight, original.again.weight)


def test_a_file_swapped_and_swapped_back_is_a_plain_one(tmp_path: Path) -> None:
    _, out = surgery(tmp_path, layout="p1 p2 c")
    back, model = tmp_path / "back.safetensors", Model(seed=1)
    cs.swap(out, back, to="conv", layers=["again"], layout="p1 p2 c")
    assert cs.load(model, back).replaced == ()
    assert torch.equal(model.again.weight, Model().again.weight)


def test_parameters_stay_what_they_were(tmp_path: Path) -> None:
    _, out = surgery(tmp_path, layout="p1 p2 c")
    model = Model(seed=1).double()
    model.again.weight.requires_grad = False
    model.again.eval()
    bias, head = model.again.bias, model.head.weight
    cs.load(model, out, cast=True)
    assert model.again.bias is bias
    assert model.head.weight is head
    assert not model.again.linear.weight.requires_grad
    assert model.again.linear.bias.requires_grad
    assert not model.again.training
    assert not model.again.linear.training
    assert model.training
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    assert torch.equal(model.head.weight, Model().head.weight.double())


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_without_memory_gets_some(kind: str, tmp_path: Path) -> None:
    original, out = surgery(tmp_path, layout="p1 p2 c")
    with torch.device("meta"):
        model = Model().eval()
    model.head.weight.requires_grad = False
    cs.load(model, out, kind=kind)
    assert not any(t.is_meta for t in [*model.parameters(), *model.buffers()])
    assert not model.head.weight.requires_grad
    assert model.again is model.stems[1]
    model.to("cpu")
    assert close(original, model, image())


@pytest.mark.parametrize("around", [torch.inference_mode, lambda: torch.device("meta")])
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_caller_is_within_does_not_reach_the_model(
    kind: str, around: Any, tmp_path: Path
) -> None:
    original, out = surgery(tmp_path)
    with torch.device("meta"):
        model = Model().eval()
    with around():
        cs.load(model, out, kind=kind)
    assert not any(t.is_meta or t.is_inference() for t in [*model.parameters(), *model.buffers()])
    assert close(original, model, image())
    model(image()).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_no_bias_and_no_recipe(tmp_path: Path) -> None:
    path = save(Model(bias=False), tmp_path / "in.safetensors")
    model = Model(seed=1, bias=False)
    assert cs.load(model, path).replaced == ()
    assert torch.equal(model.again.weight, Model(bias=False).again.weight)


def test_a_layer_that_has_the_target_form_already(tmp_path: Path) -> None:
    _, out = surgery(tmp_path)
    model = Model()
    model.stems[1] = model.again = nn.Linear(18, 8)
    assert cs.load(model, out).replaced == ()
    other = tmp_path / "other"
    other.mkdir()
    _, out = surgery(other, to="conv", layers=["head"], geometry=[], method="1x1")
    model = Model()
    model.head = nn.Conv2d(32, 5, 1)
    assert cs.load(model, out).replaced == ()


def test_keys_with_other_names(tmp_path: Path) -> None:
    state = {f"module.{k}": v.clone() for k, v in Model().state_dict().items()}
    path, out = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    safetensors_torch.save_file(state, path)
    cs.swap(path, out, geometry=["module.*=s2x3"])
    model = Model(seed=1)
    report = cs.load(model, out, key_map=lambda key: key.removeprefix("module."))
    assert len(report.replaced) == 1  # one module under two names, and both are in the file
    assert type(model.again).__name__ == "PatchLinear"
    assert model.again is model.stems[1]
    names = {key: key.removeprefix("module.") for key in state}
    assert cs.load(Model(), out, key_map=names).tensors == len(state)
