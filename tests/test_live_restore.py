"""`restore_module`: plain layers again, with the present weights, bit by bit."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import convsurgeon as cs
from convsurgeon.nn import FlatConv2d, GemmConv2d, PatchLinear
from tests.live_cases import FORMS, contents, net, pixels, same_tree, standing
from tests.load_cases import surgery
from tests.test_nn_and_rules import convs

every_form = pytest.mark.parametrize("options", FORMS.values(), ids=FORMS)
WAYS: dict[str, dict[str, Any]] = {
    **FORMS,
    "conv of the input": {"to": "conv", "input_shape": ["head=6x2x2"]},
    "conv of one position": {"to": "conv", "method": "1x1"},
    "in memory": {"to": "conv", "method": "1x1", "channels_first": "memory"},
    "maps": {"to": "conv", "method": "1x1", "channels_first": True},
}
MEMORY = (torch.contiguous_format, torch.channels_last)


@pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
def test_a_swap_and_back_is_nothing(options: dict[str, Any]) -> None:
    model = net()
    plan = cs.swap_module(model, **options)
    report = cs.restore_module(model)
    assert {row.module for row in report.restored} == {r.module for r in plan.files[0].rewrites}
    assert report.refused == ()
    assert contents(model) == contents(net())
    assert same_tree(model, net())
    assert model.stem[1] is model.proj
    assert "_convsurgeon" not in str(vars(model.proj))


@st.composite
def spelled(draw: st.DrawFn) -> nn.Module:
    """A conv with stride == kernel, written in one of the ways that mean no padding."""
    axes = draw(st.integers(1, 3))
    kernel = tuple(draw(st.integers(1, 3)) for _ in range(axes))
    kind: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[axes - 1]
    torch.manual_seed(draw(st.integers(0, 9)))
    conv: nn.Module = kind(
        draw(st.integers(1, 3)),
        draw(st.integers(1, 3)),
        kernel,
        kernel,
        padding=draw(st.sampled_from([0, "valid"])),
        padding_mode=draw(st.sampled_from(["zeros", "reflect", "circular"])),
        dilation=tuple(draw(st.integers(1, 2)) if k == 1 else 1 for k in kernel),
        bias=draw(st.booleans()),
        dtype=draw(st.sampled_from([torch.float16, torch.bfloat16, torch.float32])),
    )
    return conv


@settings(max_examples=80)
@given(
    layers=st.lists(st.one_of(spelled(), convs()), min_size=1, max_size=3),
    options=st.sampled_from(list(FORMS.values())),
    turned=st.booleans(),
)
def test_every_model_comes_back(
    layers: list[nn.Module], options: dict[str, Any], turned: bool
) -> None:
    model = nn.Sequential(
        *(layer.to_empty(device="cpu") if meta(layer) else layer for layer in layers)
    )
    if turned:
        turn(model)
    plain = deepcopy(model)
    plan = cs.swap_module(model, **options)
    assert len(cs.restore_module(model).restored) == len(plan.files[0].rewrites)
    assert contents(model) == contents(plain)
    assert same_tree(model, plain)
    settings_of = [{k: v for k, v in vars(m).items() if k[0] != "_"} for m in plain]
    assert [{k: v for k, v in vars(m).items() if k[0] != "_"} for m in model] == settings_of


def meta(layer: nn.Module) -> bool:
    return any(parameter.is_meta for parameter in layer.parameters())


def turn(model: nn.Module) -> None:
    """Lay every weight out in another order of memory."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.data = parameter.mT.contiguous().mT if parameter.dim() > 1 else parameter.data


@every_form
def test_the_weights_are_the_present_ones(options: dict[str, Any]) -> None:
    model = net()
    cs.swap_module(model, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    values = model.proj.weight.detach().clone()
    cs.restore_module(model)
    assert torch.equal(model.proj.weight, values)
    assert torch.equal(model.proj.weight, net().proj.weight + 1)
    assert torch.equal(model.proj.bias, net().proj.bias + 1)


def test_a_gemm_gives_back_the_very_parameters() -> None:
    model = net()
    parameters = dict(model.named_parameters())
    cs.swap_module(model, kind="gemm")
    assert {n: id(p) for n, p in model.named_parameters()} == {
        n: id(p) for n, p in parameters.items()
    }
    cs.restore_module(model)
    assert {n: id(p) for n, p in model.named_parameters()} == {
        n: id(p) for n, p in parameters.items()
    }


def test_the_memory_of_a_contiguous_weight_is_the_same_throughout() -> None:
    model = net()
    place = model.proj.weight.data_ptr()
    cs.swap_module(model)
    assert model.proj.linear.weight.data_ptr() == place
    cs.restore_module(model)
    assert model.proj.weight.data_ptr() == place


def test_a_model_without_drop_ins() -> None:
    model = net()
    before = standing(model)
    assert cs.restore_module(model) == cs.ModuleReport(())
    assert standing(model) == before


def test_an_attention_gets_its_own_kind_of_linear_back() -> None:
    linear: Any = nn.modules.linear.NonDynamicallyQuantizableLinear(4, 3)
    model = nn.Sequential(linear)
    cs.swap_module(model, to="conv", method="1x1")
    assert isinstance(model[0], nn.Conv2d)
    cs.restore_module(model)
    assert type(model[0]) is type(linear)


def test_drop_ins_from_elsewhere(tmp_path: Path) -> None:
    _, out = surgery(tmp_path)
    model: Any = nn.Sequential(PatchLinear(3, 4, (2, 2)), GemmConv2d(4, 4, 2), FlatConv2d(4, 3, 1))
    report = cs.restore_module(model)
    assert [row.after for row in report.restored] == ["Conv2d", "Conv2d", "Linear"]
    assert str(report).splitlines()[0] == "0: PatchLinear -> Conv2d"
    from tests.load_cases import Model

    loaded, plain = Model(seed=1), Model()
    cs.load(loaded, out)
    cs.restore_module(loaded)
    assert same_tree(loaded, plain)
    assert torch.equal(loaded.again.weight, plain.again.weight)


class Adapter(nn.Module):
    """Stands for a LoRA layer: it wraps what it was put in the place of."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base_layer(x)
        return out


def with_adapter(model: Any) -> None:
    model.proj.linear = Adapter(model.proj.linear)


def quantised(model: Any) -> None:
    weight = model.proj.linear.weight.detach().to(torch.int8)
    model.proj.linear.weight = nn.Parameter(weight, requires_grad=False)


def with_norm(model: Any) -> None:
    nn.utils.parametrizations.weight_norm(model.proj.linear)


def with_inner_hook(model: Any) -> None:
    model.proj.linear.register_forward_hook(lambda *_: None)


def with_outer_norm(model: Any) -> None:
    nn.utils.parametrize.register_parametrization(model.proj, "compute", nn.Identity())


def with_forward(model: Any) -> None:
    vars(model.proj)["forward"] = torch.relu


def with_inner_buffer(model: Any) -> None:
    model.proj.linear.register_buffer("seen", torch.zeros(1))


def with_attribute(model: Any) -> None:
    model.proj.transposed = True


CHANGED = {
    "adapter": (with_adapter, "CS027", "its inner layer is a Adapter of "),
    "quantised": (quantised, "CS027", "not a plain floating-point parameter"),
    "norm": (with_norm, "CS027", "its inner layer is a ParametrizedLinear"),
    "inner hook": (with_inner_hook, "CS027", "_forward_hooks"),
    "outer norm": (with_outer_norm, "CS007", "a ParametrizedPatchLinear"),
    "forward": (with_forward, "CS007", "the forward of this PatchLinear was replaced"),
    "inner buffer": (with_inner_buffer, "CS024", "it holds seen beside its weight and bias"),
    "attribute": (with_attribute, "CS024", "somebody set transposed on it, which a Conv2d has"),
}


@pytest.mark.parametrize("options", [{"kind": "gemm"}, {"to": "conv", "method": "1x1"}])
def test_a_drop_in_of_either_kind_that_was_changed_stays(options: dict[str, Any]) -> None:
    model: Any = nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.Linear(6, 5))
    cs.swap_module(model, **options)
    one = next(one for one in model if type(one).__module__.startswith("convsurgeon."))
    vars(one)["forward"] = torch.relu
    (row,) = cs.restore_module(model).refused
    assert (row.code, "was replaced" in row.reason) == ("CS007", True)
    del vars(one)["forward"]
    nn.utils.parametrizations.weight_norm(one)
    (row,) = cs.restore_module(model).refused
    assert (row.code, row.kind[:12]) == ("CS007", "Parametrized")
    nn.utils.parametrize.remove_parametrizations(one, "weight")
    bound = one.weight
    del one.weight
    one.weight_v, one.weight = bound, bound.detach()
    (row,) = cs.restore_module(model).refused
    assert (row.code, "is computed" in row.reason) == ("CS008", True)


@pytest.mark.parametrize(("change", "code", "reason"), CHANGED.values(), ids=CHANGED)
def test_a_drop_in_that_was_changed_stays(change: Any, code: str, reason: str) -> None:
    model = net()
    cs.swap_module(model)
    change(model)
    proj, tensors = model.proj, contents_of(model.proj)
    report = cs.restore_module(model)
    assert [(row.module, row.code) for row in report.refused] == [("stem.1", code), ("proj", code)]
    assert reason in report.refused[0].reason
    assert f"stem.1: {type(proj).__name__} stays, " in str(report)
    assert [row.module for row in report.restored] == ["point"]
    assert model.proj is model.stem[1] is proj
    assert contents_of(proj) == tensors


def contents_of(module: nn.Module) -> list[tuple[str, list[Any]]]:
    return [(name, tensor.tolist()) for name, tensor in module.state_dict().items()]


def test_what_was_merged_is_restored() -> None:
    model = net()
    cs.swap_module(model)
    with_adapter(model)
    assert cs.restore_module(model).refused
    model.proj.linear = model.proj.linear.base_layer
    assert not cs.restore_module(model).refused
    assert contents(model) == contents(net())
    assert same_tree(model, net())


def test_a_flat_convolution_that_takes_maps_stays() -> None:
    model = nn.Sequential(FlatConv2d(3, 4, 2, input="map"))
    (row,) = cs.restore_module(model).refused
    assert (row.code, row.reason) == (
        "CS026",
        "this FlatConv2d takes maps, which no nn.Linear does",
    )
    assert model(torch.ones(1, 3, 4, 4)).shape == (1, 4, 3, 3)


def test_the_model_itself_stays() -> None:
    (row,) = cs.restore_module(PatchLinear(3, 4, (2, 2))).refused
    assert (row.module, row.code) == ("", "CS022")


def test_the_other_direction_asks_for_restoring_first() -> None:
    model = net()
    cs.swap_module(model)
    before = standing(model)
    (file,) = cs.swap_module(model, to="conv", method="1x1", where=lambda *_: False).files
    found = {row.module: row for row in file.layers}
    assert found["proj"].code == "CS026"
    assert "restore_module" in found["proj"].reason
    assert standing(model) == before
    cs.restore_module(model)
    cs.swap_module(model, to="conv", method="1x1")
    (file,) = cs.swap_module(model).files
    assert {row.module: row.code for row in file.layers}["head"] == "CS026"


def test_a_geometry_that_was_changed_stays_changed() -> None:
    model = net()
    cs.swap_module(model, kind="gemm")
    model.proj.stride = (1, 1)
    cs.restore_module(model)
    assert model.proj.stride == (1, 1)
    assert model.proj(pixels()).shape == (3, 8, 4, 8)
