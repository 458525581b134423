"""PyTorch files through the whole job: swapped, proved, restored as safetensors."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import convsurgeon as cs
from convsurgeon.errors import PickleError
from tests.cli_helpers import document, invoke

GEOMETRY = ["patch=s2"]


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "patch.weight": torch.randn(8, 3, 2, 2),
        "patch.bias": torch.randn(8),
        # Larger than a chunk, and no multiple of one: the two files are not read in step.
        "large.weight": torch.randn(601, 701),
        "half": torch.randn(7).to(torch.bfloat16),
        "flag": torch.tensor(data=True),
        "turned": torch.randn(6, 4).t(),
    }


@pytest.mark.parametrize("layout", ["c p1 p2", "p1 p2 c"])
def test_a_pickle_is_swapped_proved_and_restored(tmp_path: Path, layout: str) -> None:
    source = tmp_path / "model.pth"
    torch.save({"state_dict": weights(), "epoch": 3}, source)

    (file,) = cs.swap(source, geometry=GEOMETRY, layout=layout).files
    target = tmp_path / "model.linear.safetensors"
    assert file.output == str(target)
    assert file.plan.notes == ("not carried over: epoch",)
    assert cs.verify(source, target).equivalent

    cs.restore(target)
    back = load_file(tmp_path / "model.safetensors")
    assert back.keys() == weights().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in weights().items())


def test_a_changed_tensor_is_seen_against_a_pickle(tmp_path: Path) -> None:
    source, other = tmp_path / "model.pth", tmp_path / "other.pth"
    torch.save(weights(), source)
    changed = weights()
    changed["large.weight"][600, 700] += 1
    torch.save(changed, other)
    cs.swap(other, tmp_path / "out.safetensors", geometry=GEOMETRY, verify="bits")

    verdict = cs.verify(source, tmp_path / "out.safetensors", function=False)
    assert verdict.files[0].complaints == ("tensor large.weight has other bytes",)


def test_which_dictionary_is_asked_for_and_chosen(tmp_path: Path) -> None:
    source = tmp_path / "model.ckpt"
    torch.save({"model": weights(), "model_ema": weights(), "step": 1}, source)

    with pytest.raises(PickleError, match="'model', 'model_ema'") as caught:
        cs.scan(source)
    assert caught.value.code == "CS051"
    assert invoke("swap", source, "--geometry", *GEOMETRY).code == 3

    chosen = ("swap", source, "--key", "model_ema", "--geometry", *GEOMETRY, "--json")
    code, report = document(*chosen)
    assert (code, report["files"][0]["rewritten"]) == (0, 1)


MODEL = """
from torch import nn
def build():
    return nn.Sequential(nn.Conv2d(3, 8, 2, stride=2), nn.Flatten(), nn.Linear(32, 4))
"""


def test_a_whole_model_takes_the_dictionary_that_was_named(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    spec = f"{tmp_path / 'model.py'}:build"
    models = {name: runpy.run_path(str(tmp_path / "model.py"))["build"]() for name in ("a", "b")}
    path = tmp_path / "run.pth"
    torch.save({name: model.state_dict() for name, model in models.items()}, path)
    cs.swap(path, tmp_path / "a.safetensors", key="a", model=spec)

    def verdict(key: str) -> cs.Verdict:
        target = tmp_path / "a.safetensors"
        return cs.verify(path, target, key=key, model=spec, input=["2x3x4x4"])

    assert verdict("a").equivalent
    assert len(verdict("a").models[0].outputs) == 1
    assert not verdict("b").equivalent
