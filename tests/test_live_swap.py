"""`swap_module`: which layers are replaced, by what, and that the model computes the same."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import convsurgeon as cs
from convsurgeon.errors import UsageError
from convsurgeon.nn import FlatConv2d, GemmConv2d, PatchLinear
from convsurgeon.plan import Contents, Shard, Wish, make_plan
from convsurgeon.sources.model import ModelSpeaker
from tests.live_cases import FORMS, close, net, pixels, rows, standing
from tests.plans import header
from tests.test_nn_and_rules import convs

every_form = pytest.mark.parametrize("options", FORMS.values(), ids=FORMS)
CLASSES = {"gemm": GemmConv2d, "linear": PatchLinear}


@every_form
def test_what_is_eligible_is_replaced_and_the_rest_stays(options: dict[str, Any]) -> None:
    model = net()
    want, others = model(pixels()), {"mix": model.mix, "head": model.head}
    plan = cs.swap_module(model, **options)
    drop_in = CLASSES[options.get("kind", "linear")]
    assert type(model.proj) is type(model.point) is drop_in
    assert model.stem[1] is model.proj
    assert {name: getattr(model, name) for name in others} == others
    assert close(model(pixels()), want)
    found = rows(plan)
    assert {name for name, row in found.items() if row.rewrite} == {"proj", "stem.1", "point"}
    assert (found["mix"].code, found["mix"].verdict.value) == ("CS001", "refused")
    assert "overlap" in found["mix"].reason
    assert found["proj"].evidence == ("model", "live Net")
    assert cs.Plan.from_json(plan.to_json()) == plan
    (note,) = plan.files[0].notes
    assert note.startswith(options.get("kind", "linear"))
    assert ("optimisers" in note) == (drop_in is PatchLinear)


@pytest.mark.parametrize("dims", [1, 2, 3])
@every_form
def test_each_number_of_axes(dims: int, options: dict[str, Any]) -> None:
    conv: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
    model = nn.Sequential(conv(3, 4, (3, 2, 2)[:dims], (3, 2, 2)[:dims], dtype=torch.float64))
    x = torch.randn(2, 3, *(7, 5, 4)[:dims], dtype=torch.float64)
    want = model(x)
    assert cs.swap_module(model, **options).files[0].rewrites
    assert close(model(x), want)


def test_the_layout_is_that_of_the_inner_columns() -> None:
    first, last = net(), net()
    weight = first.proj.weight.detach().clone()
    cs.swap_module(first)
    cs.swap_module(last, layout="p1 p2 c")
    assert (first.proj.layout, last.proj.layout) == ("c p1 p2", "p1 p2 c")
    assert torch.equal(first.proj.linear.weight, weight.flatten(1))
    assert torch.equal(last.proj.linear.weight, weight.movedim(1, -1).flatten(1))


def test_a_linear_becomes_a_convolution_of_its_input() -> None:
    model = net()
    want = model(pixels())
    plan = cs.swap_module(model, to="conv", input_shape=["head=6x2x2"])
    assert type(model.head) is FlatConv2d
    assert tuple(model.head.weight.shape) == (5, 6, 2, 2)
    assert close(model(pixels()), want)
    assert [row.module for row in plan.files[0].rewrites] == ["head"]
    assert rows(plan)["mix"].verdict.value == "already"


@pytest.mark.parametrize(("method", "kernel"), [("1", (1,)), ("1x1", (1, 1)), ("1x1x1", (1, 1, 1))])
def test_every_linear_becomes_a_convolution_of_one_position(
    method: str, kernel: tuple[int, ...]
) -> None:
    model: Any = nn.Sequential(nn.Linear(6, 4, dtype=torch.float64), nn.Embedding(9, 4))
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    want = model[0](x)
    plan = cs.swap_module(model, to="conv", method=method)
    assert tuple(model[0].weight.shape) == (4, 6, *kernel)
    assert close(model[0](x), want)
    assert rows(plan)["1"].code == "CS015"


def test_a_linear_whose_input_nobody_knows_is_undecided() -> None:
    model = net()
    before = standing(model)
    row = rows(cs.swap_module(model, to="conv"))["head"]
    assert (row.verdict.value, row.hint) == ("undecided", "input_shape=['head=CxHxW']")
    assert standing(model) == before


def test_where_leaves_layers_out() -> None:
    model, asked = net(), []

    def where(name: str, module: nn.Module) -> bool:
        asked.append((name, type(module)))
        return name != "point"

    plan = cs.swap_module(model, where=where)
    assert asked == [(name, nn.Conv2d) for name in ("point", "proj", "stem.1")]
    assert type(model.point) is nn.Conv2d
    assert type(model.proj) is PatchLinear
    row = rows(plan)["point"]
    assert (row.verdict.value, row.rewrite) == ("eligible", None)
    assert row.reason == "kernel and stride are 1; left out by where"


def test_a_module_of_two_names_is_left_out_under_both() -> None:
    model = net()
    plan = cs.swap_module(model, where=lambda name, _: name != "proj")
    assert type(model.stem[1]) is nn.Conv2d
    assert rows(plan)["stem.1"].reason.endswith("left out by where under its name proj")
    assert rows(plan)["point"].rewrite


def test_where_may_fail_and_the_model_is_as_it_was() -> None:
    model = net()
    before = standing(model)
    with pytest.raises(ZeroDivisionError):
        cs.swap_module(model, where=lambda _, __: bool(1 // 0))
    assert standing(model) == before


@every_form
def test_a_second_swap_finds_it_done(options: dict[str, Any]) -> None:
    model = net()
    cs.swap_module(model, **options)
    before = standing(model)
    found = rows(cs.swap_module(model))
    assert standing(model) == before
    kind = type(model.proj).__name__
    for name in ("proj", "stem.1", "point"):
        assert (found[name].verdict.value, found[name].reason) == ("already", f"already a {kind}")
    assert not cs.swap_module(model).files[0].rewrites


def test_a_model_without_candidates_has_an_empty_plan() -> None:
    (file,) = cs.swap_module(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4))).files
    assert (file.layers, file.notes, file.tensors) == ((), (), 5)


def test_what_is_inside_of_a_drop_in_is_counted_and_no_candidate() -> None:
    model = net()
    (before,) = cs.swap_module(model).files
    (after,) = cs.swap_module(model, to="conv", method="1x1").files
    assert (after.tensors, after.bytes) == (before.tensors, before.bytes)
    assert "proj.linear" not in {row.module for row in after.layers}
    assert type(model.proj.linear) is nn.Linear


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"kind": "conv"}, "kind"),
        ({"to": "conv", "kind": "gemm"}, "kind"),
        ({"to": "matrix"}, "--to"),
        ({"layout": "c p2 p1"}, "--layout"),
        ({"kind": "gemm", "layout": "p1 p2 c"}, "layout"),
        ({"to": "conv", "layout": "p1 p2 c"}, "layout"),
        ({"method": "1x1"}, "--method"),
        ({"input_shape": ["head=6x2x2"]}, "--input-shape"),
        ({"to": "conv", "input_shape": ["head"]}, "--input-shape"),
        ({"to": "conv", "input_shape": [3]}, "input_shape"),
        ({"where": "conv*"}, "where"),
        ({"where": ["conv"]}, "where"),
    ],
)
def test_what_does_not_go_together(options: dict[str, Any], where: str) -> None:
    model = net()
    before = standing(model)
    with pytest.raises(UsageError, match="CS090") as caught:
        cs.swap_module(model, **options)
    assert where in str(caught.value)
    assert standing(model) == before


def test_what_is_no_module() -> None:
    for function in (cs.swap_module, cs.restore_module, cs.original_state_dict):
        with pytest.raises(UsageError, match="a dict is no"):
            function({})  # type: ignore[arg-type] # what is tested


@settings(max_examples=60)
@given(st.lists(convs(), min_size=1, max_size=3))
def test_the_rules_are_those_for_files(layers: list[nn.Module]) -> None:
    """The same verdicts as of a file of these tensors, with the model as its evidence."""
    model = nn.Sequential(*layers)
    speaker = ModelSpeaker.of(model, "live Sequential")
    plan = cs.swap_module(deepcopy(model)).files[0]
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    contents = Contents("live Sequential", (Shard("live Sequential", header(shapes)),), 0)
    assert plan.layers == make_plan(contents, [speaker], Wish()).layers
