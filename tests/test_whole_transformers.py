"""Whole models of transformers: by a SPEC, through the library's loader, on its dummy inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch as safetensors_torch
import torch

import convsurgeon as cs
from convsurgeon.api.whole import Trial, try_models
from convsurgeon.errors import MismatchError, ModelError, UsageError
from convsurgeon.proof import ModelVerdict
from tests.transformers_cases import build, quieten, save
from tests.whole_cases import changed

transformers = pytest.importorskip("transformers", reason="its models are what is run")
PATCH = "embeddings.patch_embeddings.projection"
MODELS = (
    "ViTForImageClassification",
    "CLIPModel",
    "SiglipModel",
    "SwinForImageClassification",
    "ConvNextForImageClassification",
    "Dinov2ForImageClassification",
)


@pytest.fixture(autouse=True)
def _quiet() -> None:
    quieten()


def swapped(name: str, folder: Path, dtype: torch.dtype, **choices: Any) -> tuple[Path, Path]:
    source = save(build(name).to(dtype), folder / "in")
    cs.swap(source, folder / "out", **choices)
    return source, folder / "out"


def tried(files: tuple[Path, Path], *inputs: str, **options: Any) -> ModelVerdict:
    return try_models(*files, Trial(f"transformers:{files[0]}", None, inputs, **options))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", MODELS)
def test_a_true_swap(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    found = tried(swapped(name, tmp_path, dtype, layout="p1 p2 c"), "dummy")
    assert found.equivalent
    assert f"torch.{found.dtype}" == str(dtype)
    assert ("pixel_values", (1, 3, 32, 32)) in {(one.name, one.shape) for one in found.inputs}
    assert found.outputs
    assert all(one.yardstick > 0 for one in found.outputs)


def in_the_other_layout(weight: torch.Tensor) -> torch.Tensor:
    return weight.view(16, 3, 4, 4).movedim(1, -1).reshape(16, 48)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_wrong_layout(dtype: torch.dtype, tmp_path: Path) -> None:
    source, out = swapped("ViTModel", tmp_path, dtype)
    weights = out / "model.safetensors"
    key = next(k for k in safetensors_torch.load_file(weights) if k.endswith(f"{PATCH}.weight"))
    found = tried((source, changed(weights, key, in_the_other_layout)), "dummy")
    assert not found.equivalent
    assert found.begins == PATCH
    assert [one.name for one in found.outputs if not one.within] == [
        "last_hidden_state",
        "pooler_output",
    ]


def test_tokens_are_those_of_the_vocabulary(tmp_path: Path) -> None:
    files = swapped("CLIPModel", tmp_path, torch.float32)
    named = ("input_ids=2x8", "attention_mask=2x8", "pixel_values=2x3x32x32")
    found = tried(files, *named)
    assert found.equivalent
    assert [one.dtype for one in found.inputs] == ["int64", "int64", "float32"]
    assert {"logits_per_image", "vision_model_output.pooler_output"} <= {
        o.name for o in found.outputs
    }
    assert tried(files, "dummy").inputs[0].name == "input_ids"


def test_an_output_that_holds_no_tensors(tmp_path: Path) -> None:
    source = save(build("MixtralForCausalLM").float(), tmp_path / "in")
    cs.swap(source, tmp_path / "out", to="conv", method="1x1", layers=["*q_proj"])
    found = tried((source, tmp_path / "out"), "input_ids=2x6")
    assert found.equivalent
    assert found.notes == ("output past_key_values is a DynamicCache and is not compared",)
    assert [one.name for one in found.outputs] == ["logits"]


def test_a_size_that_the_model_does_not_take(tmp_path: Path) -> None:
    files = swapped("ViTModel", tmp_path, torch.float32)
    with pytest.raises(ModelError, match=r"cannot be run: ValueError: Input image size .*CS064"):
        tried(files, "pixel_values=1x3x40x32")
    with pytest.raises(UsageError, match=r"no parameter 'pixels'.*; it has .*pixel_values"):
        tried(files, "pixels=1x3x32x32")


def through(files: tuple[Path, Path], *inputs: str, **options: Any) -> ModelVerdict:
    return try_models(*files, Trial(None, "transformers", inputs, **options))


def test_through_the_library_a_swapped_file_is_refused(tmp_path: Path) -> None:
    files = swapped("ViTModel", tmp_path, torch.float32)
    found = through(files, "dummy")
    assert not found.equivalent
    assert found.source == f"transformers {transformers.__version__}: ViTModel"
    (line,) = found.refused
    assert f"{PATCH}.weight has shape [16, 48] in the file, [16, 3, 4, 4] in the model" in line
    assert (found.outputs, found.notes) == ((), ())


@pytest.mark.parametrize("dtype", [None, "float64"])
def test_through_the_library_a_file_swapped_back_runs(dtype: str | None, tmp_path: Path) -> None:
    source, out = swapped("ViTModel", tmp_path, torch.bfloat16)
    cs.restore(out / "model.safetensors", out / "again.safetensors")
    (out / "again.safetensors").replace(out / "model.safetensors")
    loaded = through((source, out))
    assert loaded.equivalent
    assert (loaded.inputs, loaded.outputs) == ((), ())
    found = through((source, out), "dummy", dtype=dtype)
    assert found.equivalent
    assert found.dtype == (dtype or "bfloat16")
    assert [one.difference for one in found.outputs] == [0.0, 0.0]


def test_through_the_library_other_values_are_a_no_without_a_run(tmp_path: Path) -> None:
    source = save(build("ViTModel").float(), tmp_path / "in")
    other = save(build("ViTModel", seed=1).float(), tmp_path / "other")
    found = through((source, other))
    assert not found.equivalent
    assert any(line.endswith("has other values than from the original") for line in found.refused)


def test_through_the_library_the_original_has_to_be_complete(tmp_path: Path) -> None:
    whole = save(build("ViTModel").float(), tmp_path / "whole")
    broken = save(build("ViTModel").float(), tmp_path / "broken")
    weights = broken / "model.safetensors"
    key = max(safetensors_torch.load_file(weights))
    changed(weights, key, lambda _: None).replace(weights)
    with pytest.raises(MismatchError, match=r"the original itself does not load through") as caught:
        through((broken, whole))
    assert caught.value.where == str(broken)
    found = through((broken, broken))
    assert not found.equivalent
    assert found.notes == ("1 of 1 complaints hold for the original too",)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"image_size": [32, 32]}, ""),
        ({"image_size": None}, "does not say how large its images are"),
    ],
)
def test_the_size_of_dummy_images(fields: dict[str, Any], words: str, tmp_path: Path) -> None:
    from convsurgeon.api.dummy_inputs import dummy_inputs
    from convsurgeon.api.model_inputs import parameters

    model = build("ViTModel")
    for name, value in fields.items():
        vars(model.config)[name] = value
    names = parameters(model)
    if not words:
        (one,) = dummy_inputs(model, names)
        assert (one.name, one.shape) == ("pixel_values", (1, 3, 32, 32))
        return
    with pytest.raises(UsageError, match=words) as caught:
        dummy_inputs(model, names)
    assert "--input-file" in caught.value.hint


def test_videos_have_frames(tmp_path: Path) -> None:
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.VideoMAEConfig(**small, intermediate_size=8, image_size=32, num_frames=4)
    source = save(transformers.VideoMAEModel(config), tmp_path / "in")
    assert json.loads((source / "config.json").read_text())["architectures"] == ["VideoMAEModel"]
    cs.swap(source, tmp_path / "out")
    found = tried((source, tmp_path / "out"), "dummy")
    assert [(one.name, one.shape) for one in found.inputs] == [("pixel_values", (1, 4, 3, 32, 32))]
    assert found.equivalent


def test_a_main_input_that_is_no_image(tmp_path: Path) -> None:
    source = save(build("ASTForAudioClassification").float(), tmp_path / "in")
    with pytest.raises(UsageError, match=r"transformers has no dummy input_values") as caught:
        tried((source, source), "dummy")
    assert caught.value.code == "CS090"
