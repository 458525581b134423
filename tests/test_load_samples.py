"""The sample checkpoints are as good after surgery as before, to the last printed digit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import convsurgeon as cs
from tests.test_samples import FOLDER, NEEDS, REWRITABLE, measured, sample_data

HEAD = ("classifier.1=16x4x4", "classifier.3=120x1x1", "classifier.5=84x1x1")
LINEAR = [("linear", {"layout": layout}) for layout in ("c p1 p2", "p1 p2 c")]
CONV = [
    ("linear", {"to": "conv", "layers": ["classifier.*"], "input_shape": HEAD}),
    ("linear", {"to": "conv", "layers": ["classifier.*"], "method": "1x1"}),
]
CASES = [
    (name, kind, choices)
    for name in NEEDS
    for kind, choices in (CONV if name == "lenet_digits" else [*LINEAR, ("gemm", LINEAR[1][1])])
]


def printed(figures: dict[str, float]) -> list[str]:
    return [f"{name} {value:.4f}" for name, value in figures.items()]


@pytest.mark.parametrize(
    ("name", "kind", "choices"), CASES, ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)]
)
def test_a_sample_measures_the_same_after_surgery(
    name: str, kind: str, choices: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip(NEEDS[name])
    data, out = sample_data(), tmp_path / "out.safetensors"
    source = FOLDER / name
    cs.swap(source / "model.safetensors", out, model=f"{source / 'model.py'}:build", **choices)
    model = data.load_source(name).build()
    report = cs.load(model, out, kind=kind)
    assert {row.module for row in report.replaced} == set(REWRITABLE[name])
    assert {row.layout for row in report.replaced} == {choices.get("layout", "c p1 p2")}
    assert printed(data.evaluate(name, model)) == printed(measured(name))


@pytest.mark.parametrize("name", NEEDS)
def test_the_original_file_loads_into_either_form(name: str, tmp_path: Path) -> None:
    source, out = FOLDER / name, tmp_path / "out.safetensors"
    choices: dict[str, Any] = CONV[0][1] if name == "lenet_digits" else LINEAR[1][1]
    cs.swap(source / "model.safetensors", out, model=f"{source / 'model.py'}:build", **choices)
    build = sample_data().load_source(name).build
    swapped, plain = build(), build()
    cs.load(swapped, out)
    before = {key: tensor.clone() for key, tensor in swapped.state_dict().items()}
    with torch.no_grad():
        for parameter in swapped.parameters():
            parameter.zero_()
    assert cs.load(swapped, source / "model.safetensors").replaced == ()
    assert all(torch.equal(before[key], t) for key, t in swapped.state_dict().items())
    assert cs.load(plain, source / "model.safetensors").replaced == ()
    expected = sample_data().load_model(name).state_dict()
    assert all(torch.equal(expected[key], t) for key, t in plain.state_dict().items())
