"""Whole models of transformers and diffusers: the same function, what is refused, the way back."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

import convsurgeon as cs
from tests.live_cases import contents, same_tree
from tests.matrix import ROWS
from tests.matrix_models import SUBJECTS, apart, build, construct, inputs, outputs, tolerance
from tests.transformers_cases import quieten

CELLS = [(name, kind) for name in SUBJECTS for kind in ROWS[name].kinds("ok")]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    quieten()


@pytest.mark.parametrize(("name", "kind"), CELLS)
def test_whole_models(name: str, kind: str) -> None:
    subject, model, given = SUBJECTS[name], build(name), inputs(name)
    plain, want = deepcopy(model), outputs(model, given)
    bound = tolerance(model, given)
    plan = cs.swap_module(model, kind=kind).files[0]
    assert sorted(row.module for row in plan.rewrites) == sorted(subject.layers)
    assert {row.key: row.code for row in plan.layers if row.code} == subject.refused
    assert apart(outputs(model, given), want) <= bound
    for layer in subject.layers:
        control = deepcopy(model)
        _misorder(control.get_submodule(layer))
        assert apart(outputs(control, given), want) > 100 * bound
    assert len(cs.restore_module(model).restored) == len(subject.layers)
    assert contents(model) == contents(plain)
    assert same_tree(model, plain)


@pytest.mark.parametrize(("name", "kind"), CELLS)
def test_a_swapped_file_in_the_original_class(name: str, kind: str, tmp_path: Path) -> None:
    original, model, given = build(name), construct(name), inputs(name)
    original.save_pretrained(tmp_path / "in")
    cs.swap(tmp_path / "in", tmp_path / "out")
    want, bound = outputs(original, given), tolerance(original, given)
    assert apart(outputs(model, given), want) > 100 * bound
    report = cs.load(model, tmp_path / "out", kind=kind)
    assert sorted(row.module for row in report.replaced) == sorted(SUBJECTS[name].layers)
    assert apart(outputs(model, given), want) <= bound


@torch.no_grad()
def _misorder(layer: Any) -> None:
    """Move each number of a weight on by one place, as a wrong layout would."""
    layer.weight.copy_(layer.weight.flatten().roll(1).view(layer.weight.shape))


@pytest.mark.parametrize("name", ["Qwen2VLForConditionalGeneration", "ViTForImageClassification"])
def test_as_the_library_initialises_it(name: str) -> None:
    """Without the numbers of `build`, and without what they may hide."""
    model, given = construct(name), inputs(name)
    want, bound = outputs(model, given), tolerance(model, given)
    cs.swap_module(model)
    assert apart(outputs(model, given), want) <= bound
