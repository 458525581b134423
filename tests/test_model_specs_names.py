"""Keys of files -> modules of transformers models: what `--model transformers:PATH` says of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from convsurgeon.geometry import Geometry
from convsurgeon.sources.build import build
from convsurgeon.sources.model import ModelSpeaker

transformers = pytest.importorskip("transformers", reason="its models are what is built")
core = pytest.importorskip("transformers.core_model_loading", reason="transformers 5 renames keys")

import torch  # noqa: E402 (transformers may be there without it)

ONE = {"num_hidden_layers": 1}
CLIP = {"model_type": "clip_vision_model", "patch_size": 16, **ONE}
RF_DETR = "backbone.0.encoder.encoder.embeddings.patch_embeddings.projection.weight"
CASES: list[tuple[str, dict[str, Any], str, tuple[int, ...]]] = [
    (
        "Qwen2VLForConditionalGeneration",
        {"text_config": ONE, "vision_config": {"depth": 1}},
        "visual.patch_embed.proj.weight",
        (2, 14, 14),
    ),
    (
        "LlavaForConditionalGeneration",
        {"text_config": ONE, "vision_config": CLIP},
        "vision_tower.embeddings.patch_embedding.weight",
        (16, 16),
    ),
    (
        "SegformerForSemanticSegmentation",
        {"depths": [1, 1, 1, 1], "sr_ratios": [4, 2, 2, 1]},
        "segformer.encoder.block.0.0.attention.self.sr.weight",
        (4, 4),
    ),
    (
        "MiniMaxM3SparseForConditionalGeneration",
        {"text_config": ONE, "vision_config": ONE},
        "vision_tower.vision_model.embeddings.patch_embedding.weight",
        (2, 14, 14),
    ),
    ("RfDetrForObjectDetection", {}, RF_DETR, (14, 14)),
    ("Sapiens2Model", ONE, "patch_embed.projection.weight", (16, 16)),
    ("Tipsv2Model", {}, "vision_encoder.patch_embed.proj.weight", (14, 14)),
    (
        "Step3p7ForConditionalGeneration",
        {"text_config": ONE, "vision_config": ONE},
        "vision_model.conv1.weight",
        (14, 14),
    ),
    (
        "ViTForImageClassification",
        ONE,
        "vit.embeddings.patch_embeddings.projection.weight",
        (16, 16),
    ),
]


def made(name: str, fields: dict[str, Any]) -> Any:
    kind = getattr(transformers, name, None)
    if kind is None:
        pytest.skip(f"this transformers has no {name}")
    with torch.device("meta"):
        return kind(kind.config_class(**fields))


def saved(model: Any) -> dict[str, Any]:
    """What the library would write: key of the file -> tensor without memory."""
    found: dict[str, Any] = core.revert_weight_conversion(model, model.state_dict(keep_vars=True))
    return found


def speaker_of(model: Any, folder: Path) -> ModelSpeaker:
    """Build the model again from the config that it saves."""
    config = {**model.config.to_diff_dict(), "architectures": [type(model).__name__]}
    (folder / "config.json").write_text(json.dumps(config, default=str))
    return build(f"transformers:{folder}")


@pytest.mark.parametrize(("name", "fields", "key", "kernel"), CASES, ids=[c[0] for c in CASES])
def test_every_saved_key_is_its_own_module(
    name: str, fields: dict[str, Any], key: str, kernel: tuple[int, ...], tmp_path: Path
) -> None:
    model = made(name, fields)
    file = saved(model)
    speaker = speaker_of(model, tmp_path).for_names(file)
    statement = speaker.about(key, tuple(file[key].shape))
    assert statement is not None
    assert statement.geometry == Geometry.plain(kernel, kernel)
    key_of = {id(tensor): one for one, tensor in file.items()}
    convs = [m for m in model.modules() if type(m) in {torch.nn.Conv2d, torch.nn.Conv3d}]
    for conv in convs:
        said = speaker.about(key_of[id(conv.weight)], tuple(conv.weight.shape))
        assert said is not None
        assert said.geometry is not None
        assert (said.geometry.stride, said.geometry.groups) == (conv.stride, conv.groups)
    assert speaker.note == ""


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod.", "model."])
def test_a_wrapper_around_saved_names(wrapper: str, tmp_path: Path) -> None:
    model = made("SegformerForSemanticSegmentation", {"depths": [1, 1, 1, 1]})
    file = saved(model)
    speaker = speaker_of(model, tmp_path).for_names(wrapper + key for key in file)
    key = "segformer.encoder.block.0.0.attention.self.sr.weight"
    assert speaker.about(wrapper + key, tuple(file[key].shape)) is not None
    assert speaker.about(key, tuple(file[key].shape)) is None


VIT = "embeddings.patch_embeddings.projection.weight"
BASE, HEAD = "ViTModel", "ViTForImageClassification"


@pytest.mark.parametrize(
    ("of_file", "of_config"), [(BASE, BASE), (BASE, HEAD), (HEAD, BASE), (HEAD, HEAD)]
)
def test_base_model_and_head(of_file: str, of_config: str, tmp_path: Path) -> None:
    file = saved(made(of_file, ONE))
    speaker = speaker_of(made(of_config, ONE), tmp_path).for_names(file)
    key = next(key for key in file if key.endswith(VIT))
    statement = speaker.about(key, (768, 3, 16, 16))
    assert statement is not None
    assert statement.form == "conv2d"


def test_names_of_the_model_itself(tmp_path: Path) -> None:
    model = made("Sapiens2Model", ONE)
    own = model.state_dict()
    speaker = speaker_of(model, tmp_path).for_names(own)
    assert speaker.about("embeddings.patch_embeddings.weight", (1024, 3, 16, 16)) is not None


def test_a_file_of_another_model(tmp_path: Path) -> None:
    speaker = speaker_of(made(BASE, ONE), tmp_path).for_names(["stem.0.weight", "head.fc.weight"])
    assert "none of the model's names" in speaker.note
    assert speaker.about("stem.0.weight", (768, 3, 16, 16)) is None


def test_one_tensor_under_several_keys(tmp_path: Path) -> None:
    fields = {"num_layers": 1, "num_decoder_layers": 1}
    model = made("UdopForConditionalGeneration", fields)
    key, shape = "encoder.embed_patches.proj.weight", (1024, 3, 16, 16)
    speaker = speaker_of(model, tmp_path).for_names(model.state_dict())
    statement = speaker.about(key, shape)
    assert statement is not None
    assert statement.geometry == Geometry.plain((16, 16), (16, 16))
    assert "one tensor with patch_embed.proj.weight" in statement.source
    alone = speaker_of(model, tmp_path).for_names([key])
    assert alone.about(key, shape) == statement


def test_what_is_converted_on_loading_is_said_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapping = pytest.importorskip("transformers.conversion_mapping", reason="it has the table")
    turned = core.WeightConverter(VIT[:-7], VIT[:-7], operations=[core.Transpose(0, 1)])
    monkeypatch.setattr(mapping, "get_model_conversion_mapping", lambda model: [turned])
    file = dict.fromkeys(made(BASE, ONE).state_dict())
    speaker = speaker_of(made(BASE, ONE), tmp_path).for_names(file)
    assert speaker.about(VIT, (768, 3, 16, 16)) is None
    assert speaker.note.endswith(f"says nothing of what is converted on loading: {VIT}")


def test_stacked_matrices_are_no_news(tmp_path: Path) -> None:
    fields = {**ONE, "num_local_experts": 2, "hidden_size": 16, "intermediate_size": 8}
    model = made("MixtralForCausalLM", {**fields, "num_attention_heads": 2, "vocab_size": 20})
    file = saved(model)
    speaker = speaker_of(model, tmp_path).for_names(file)
    assert any(".experts.1." in key for key in file)
    assert speaker.note == ""
    gate = next(key for key in file if ".experts.1.w1" in key)
    assert speaker.about(gate, tuple(file[gate].shape)) is None
