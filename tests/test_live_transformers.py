"""Live surgery on models of transformers: what is replaced, the same outputs, and the way back."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

import convsurgeon as cs
from convsurgeon.nn import FlatConv2d
from tests.live_cases import FORMS, contents, same_tree
from tests.test_transformers_swap import LAYERS
from tests.transformers_cases import build, difference, inputs, left_open

every_form = pytest.mark.parametrize("options", FORMS.values(), ids=FORMS)
UNTOUCHED = ("ASTForAudioClassification", "VitPoseForPoseEstimation")


@pytest.mark.parametrize("name", LAYERS)
def test_the_same_outputs_and_the_way_back(name: str) -> None:
    original = build(name)
    generator = torch.Generator().manual_seed(3)
    x = inputs(name, generator)
    bound = left_open(original, x, generator)
    assert bound < 1e-12
    for options in FORMS.values():
        model = deepcopy(original)
        plan = cs.swap_module(model, **options).files[0]
        assert len(plan.rewrites) == LAYERS[name]
        assert {row.code for row in plan.layers} <= {None, "CS001", "CS005"}
        assert difference(original, model, x, x) <= bound
        report = cs.restore_module(model)
        assert len(report.restored) == LAYERS[name]
        assert not report.refused
        assert contents(model) == contents(original)
        assert same_tree(model, original)
        assert difference(original, model, x, x) == 0


@pytest.mark.parametrize("name", UNTOUCHED)
def test_overlapping_and_padded_layers_stay(name: str) -> None:
    model = build(name)
    plan = cs.swap_module(model).files[0]
    assert not plan.rewrites
    assert not [module for module in model.modules() if "convsurgeon" in type(module).__module__]


@pytest.mark.parametrize("name", ["ViTModel", "CLIPVisionModel", "SwinForImageClassification"])
def test_every_linear_as_a_convolution_of_one_position(name: str) -> None:
    original = build(name)
    model = deepcopy(original)
    generator = torch.Generator().manual_seed(3)
    x = inputs(name, generator)
    plan = cs.swap_module(model, to="conv", method="1x1").files[0]
    linears = [one for one in original.modules() if type(one) is nn.Linear]
    assert len(plan.rewrites) == len(linears) > 4
    assert not [one for one in model.modules() if isinstance(one, nn.Linear)]
    # One rounding is left open by the pixels, and each of these layers adds some of its own.
    bound = len(linears) * left_open(original, x, generator)
    assert difference(original, model, x, x) <= bound
    cs.restore_module(model)
    assert contents(model) == contents(original)
    assert same_tree(model, original)


@pytest.mark.filterwarnings("ignore:.*activation_checkpointing_enable:FutureWarning")
@every_form
def test_training_with_gradient_checkpointing(options: dict[str, Any]) -> None:
    gradients: list[dict[str, Any]] = []
    for one in (build("ViTForImageClassification"), build("ViTForImageClassification")):
        if gradients:
            assert cs.swap_module(one, **options).files[0].rewrites
        one.train()
        one.gradient_checkpointing_enable({"use_reentrant": False})
        x = inputs("ViTForImageClassification", torch.Generator().manual_seed(3))
        one(**x, labels=torch.tensor([3, 7])).loss.backward()
        cs.restore_module(one)
        gradients.append({name: p.grad for name, p in one.named_parameters() if p.grad is not None})
    plain, swapped = gradients
    assert plain.keys() == swapped.keys()
    assert max(float((plain[n] - swapped[n]).abs().max()) for n in plain) < 1e-11


def test_input_shapes_are_for_the_layer_that_they_name() -> None:
    model = build("ConvNextForImageClassification")
    plan = cs.swap_module(model, to="conv", input_shape=["classifier=16x1x1"]).files[0]
    assert [row.module for row in plan.rewrites] == ["classifier"]
    assert isinstance(model.classifier, FlatConv2d)
