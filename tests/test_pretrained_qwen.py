"""Qwen2-VL and Qwen2.5-VL in linear form: every documented path gives the original's function.

The library's own fusion of these patch embeddings leaves the weight of the linear layer made up.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch as safetensors_torch
import torch
from torch import nn

import convsurgeon as cs
from convsurgeon.integrations.transformers import swapped_weights
from convsurgeon.nn import GemmConv3d, PatchLinear
from tests.matrix_models import PROJ, construct, inputs, outputs
from tests.transformers_cases import quieten

transformers = pytest.importorskip("transformers", reason="its models are what is tested")
pytest.importorskip("transformers.conversion_mapping", reason="models of version 5")

NAMES = ["Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration"]
LAST = "p1 p2 c"


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    quieten()
    found: str = request.param
    return found


def close(name: str, model: Any, original: Any) -> bool:
    pairs = zip(outputs(model, inputs(name)), outputs(original, inputs(name)), strict=True)
    return all(torch.allclose(one, other, rtol=1e-4, atol=1e-5) for one, other in pairs)


def check(name: str, model: Any, original: Any, kind: type[nn.Module] = PatchLinear) -> None:
    """It is in linear form, holds the original's bits, and computes the same."""
    assert type(model.get_submodule(PROJ)) is kind
    found, wanted = cs.original_state_dict(model), original.state_dict()
    assert list(found) == list(wanted)
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert close(name, model, original)


def test_a_weight_that_is_made_up_is_seen(name: str) -> None:
    original, other = construct(name), construct(name)
    nn.init.normal_(other.get_submodule(PROJ).weight)
    assert not close(name, other, original)


def test_in_memory_and_saved(name: str, tmp_path: Path) -> None:
    original = construct(name)
    for kind, expected in (("linear", PatchLinear), ("gemm", GemmConv3d)):
        model = construct(name)
        cs.swap_module(model, kind=kind)
        check(name, model, original, expected)
        model.save_pretrained(tmp_path / kind)
        again = getattr(transformers, name).from_pretrained(tmp_path / kind)
        assert type(again.get_submodule(PROJ)) is nn.Conv3d
        assert close(name, again, original)


def test_from_files(name: str, tmp_path: Path) -> None:
    original, model_class = construct(name), getattr(transformers, name)
    original.save_pretrained(tmp_path / "in", max_shard_size="20KB")
    folders = [tmp_path / "in"]
    for number, layout in enumerate(("c p1 p2", LAST)):
        folders.append(tmp_path / str(number))
        cs.swap(tmp_path / "in", folders[-1], verify="bits", layout=layout)
    for folder in folders:
        check(name, cs.from_pretrained(model_class, folder), original)
        model = construct(name)
        nn.init.normal_(model.get_submodule(PROJ).weight)
        cs.swap_module(model, layout=LAST)
        cs.load(model, folder)
        check(name, model, original)
        if folder is not folders[0]:
            model = construct(name)
            nn.init.normal_(model.get_submodule(PROJ).weight)
            cs.load(model, folder)
            check(name, model, original)
            with swapped_weights(folder):
                assert close(name, model_class.from_pretrained(folder), original)


def test_with_the_names_of_a_linear_form(name: str, tmp_path: Path) -> None:
    original = construct(name)
    cs.swap_module(original, layout=LAST)
    cs.save_pretrained(original, tmp_path / "child", form="swapped", child_keys=True)
    cs.restore_module(original)
    (file,) = (tmp_path / "child").glob("*.safetensors")
    assert "visual.patch_embed.proj.linear.weight" in safetensors_torch.load_file(file)
    model = cs.from_pretrained(getattr(transformers, name), tmp_path / "child", layout=LAST)
    check(name, model, original)
    with swapped_weights(tmp_path / "child"):
        plain = getattr(transformers, name).from_pretrained(tmp_path / "child")
    assert close(name, plain, original)
