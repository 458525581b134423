"""The libraries themselves: a few architectures of each, against what is known about them."""

from __future__ import annotations

from typing import Any

import pytest

from tools.zoo.build import attempt, library
from tools.zoo.probe import probed

pytestmark = pytest.mark.long


def row(source: str, name: str) -> dict[str, Any]:
    module = {"open_clip": "open_clip_torch"}.get(source, source)
    pytest.importorskip(source if source != "torchvision" else "torch", reason=f"needs {module}")
    try:
        found = library(source)
    except ImportError as missing:
        pytest.skip(f"needs {module}: {missing}")
    (candidate,) = [each for each in found.candidates if each.name == name]
    made = attempt(candidate, found, {})
    assert "error" not in made, made
    return probed(made, candidate) if made["model_types"] else made


def conv(made: dict[str, Any], key: str) -> dict[str, Any]:
    (found,) = [each for each in made["convs"] if each["key"] == key]
    return found  # type: ignore[no-any-return]


PATCH = "embeddings.patch_embeddings.projection.weight"


def test_pvt_gives_the_kernel_as_strides_and_the_stride_as_patch_sizes() -> None:
    made = row("transformers", "pvt.PvtModel")
    found = conv(made, "encoder.patch_embeddings.1.projection.weight")
    assert found["from"]["kernel"] == [{"f": "strides", "i": 1}] * 2
    assert found["from"]["stride"] == [{"f": "patch_sizes", "i": 1}] * 2
    assert made["probe"] == "agrees"
    assert list(made["defaults"]["patch_sizes"]) == [4, 2, 2, 2]


def test_vitpose_pads_by_two_in_its_code() -> None:
    found = conv(row("transformers", "vitpose_backbone.VitPoseBackbone"), PATCH)
    assert found["from"]["padding"] == [2, 2]
    assert not found["eligible"]


def test_names_on_disk_are_not_names_in_the_model() -> None:
    made = row("transformers", "segformer.SegformerModel")
    found = conv(made, "encoder.patch_embeddings.0.proj.weight")
    assert found["module"] == "stages.0.patch_embeddings.proj"
    assert made["model_types"] == {"": "segformer"}


def test_a_nested_configuration_has_its_path() -> None:
    made = row("transformers", "llava.LlavaModel")
    (found,) = [each for each in made["convs"] if each["eligible"]]
    assert found["from"]["stride"] == [{"f": "vision_config.patch_size"}] * 2
    assert made["model_types"]["vision_config"] == "clip_vision_model"


def test_tied_tensors_are_saved_once() -> None:
    made = row("transformers", "gpt2.GPT2LMHeadModel")
    assert made["tied"] == {"lm_head.weight": "transformer.wte.weight"}
    assert "lm_head.weight" not in made["tensors"]


@pytest.mark.parametrize(
    ("source", "name", "key", "fields"),
    [
        ("diffusers", "SD3Transformer2DModel", "pos_embed.proj.weight", {"patch_size"}),
        ("open_clip", "ViT-B-32", "visual.conv1.weight", {"vision_cfg.patch_size"}),
        ("timm", "vit_base_patch16_224", "patch_embed.proj.weight", set()),
        ("torchvision", "vit_b_16", "conv_proj.weight", set()),
    ],
)
def test_each_library_gives_rows(source: str, name: str, key: str, fields: set[str]) -> None:
    made = row(source, name)
    assert conv(made, key)["eligible"]
    assert set(made["defaults"]) >= fields
    assert made.get("probe", "agrees") == "agrees"


def test_a_patch_size_can_be_another_one() -> None:
    made = row("timm", "vit_base_patch16_224")
    found = library("timm")
    (other,) = found.variants(made)
    assert other.name == "vit_base_patch16_224|patch_size=8"
    varied = attempt(other, found, {})
    assert conv(varied, "patch_embed.proj.weight")["stride"] == [8, 8]


def test_an_architecture_without_a_patch_size_has_no_variant() -> None:
    made = row("timm", "davit_tiny")
    found = library("timm")
    others = found.variants(made)
    assert [other.name for other in others] == [
        "davit_tiny|patch_size=4",
        "davit_tiny|patch_size=64",
    ]
    for other in others:
        assert "unexpected keyword argument" in attempt(other, found, {})["error"]
