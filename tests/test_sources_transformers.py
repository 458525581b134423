"""The table of facts against live models of transformers, as they save themselves."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from convsurgeon.header import header_length, parse
from convsurgeon.sources.config import ConfigSpeaker
from convsurgeon.sources.model import ModelSpeaker

transformers = pytest.importorskip("transformers")

MARK = 1000.0
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
}
CLIP = {
    "text_config": {**SMALL, "vocab_size": 50, "max_position_embeddings": 8, "bos_token_id": 0},
    "vision_config": {**SMALL, "image_size": 32, "patch_size": 16},
}
SWIN = {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 2, "image_size": 32}
SEGFORMER = {
    "depths": [1, 2, 1, 1],
    "hidden_sizes": [4, 8, 8, 16],
    "num_attention_heads": [1, 2, 2, 2],
    "decoder_hidden_size": 8,
    "patch_sizes": [5, 3, 3, 3],
    "sr_ratios": [4, 2, 2, 1],
}
CONVNEXT = {"hidden_sizes": [4, 8, 8, 16], "depths": [1, 1, 2, 1]}
VITPOSE = {"model_type": "vitpose_backbone", **SMALL, "image_size": [32, 32], "patch_size": [8, 8]}
ROWS: list[tuple[str, str, dict[str, Any], int]] = [
    ("ViTModel", "ViTConfig", {**SMALL, "image_size": 32}, 1),
    ("ViTForImageClassification", "ViTConfig", {**SMALL, "patch_size": 8}, 1),
    ("ViTForMaskedImageModeling", "ViTConfig", {**SMALL, "encoder_stride": 4}, 2),
    ("CLIPModel", "CLIPConfig", CLIP, 1),
    ("CLIPVisionModel", "CLIPVisionConfig", SMALL, 1),
    ("CLIPVisionModelWithProjection", "CLIPVisionConfig", {**SMALL, "patch_size": 8}, 1),
    ("SiglipModel", "SiglipConfig", CLIP, 1),
    ("SiglipVisionModel", "SiglipVisionConfig", {**SMALL, "patch_size": 8}, 1),
    ("Dinov2Model", "Dinov2Config", {**SMALL, "mlp_ratio": 1, "image_size": 28}, 1),
    ("Dinov2Backbone", "Dinov2Config", {**SMALL, "patch_size": 7}, 1),
    ("SwinModel", "SwinConfig", {**SWIN, "patch_size": 2}, 1),
    ("SwinBackbone", "SwinConfig", SWIN, 1),
    ("SwinForMaskedImageModeling", "SwinConfig", {**SWIN, "encoder_stride": 8}, 2),
    ("ConvNextModel", "ConvNextConfig", {**CONVNEXT, "patch_size": 2}, 9),
    ("ConvNextForImageClassification", "ConvNextConfig", CONVNEXT, 9),
    ("ConvNextBackbone", "ConvNextConfig", CONVNEXT, 9),
    ("ASTModel", "ASTConfig", {**SMALL, "frequency_stride": 16, "time_stride": 12}, 1),
    ("ASTForAudioClassification", "ASTConfig", SMALL, 1),
    ("SegformerModel", "SegformerConfig", SEGFORMER, 13),
    ("SegformerForSemanticSegmentation", "SegformerConfig", SEGFORMER, 15),
    ("VitPoseForPoseEstimation", "VitPoseConfig", {"backbone_config": VITPOSE}, 2),
    ("VitPoseBackbone", "VitPoseBackboneConfig", {**SMALL, "image_size": [32, 32]}, 1),
]


def marked_weights(path: Path) -> dict[int, tuple[str, tuple[int, ...]]]:
    """Return key and shape of each weight in the file that begins with the number of a conv."""
    content = path.read_bytes()
    end = 8 + header_length(content[:8], len(content))
    found = {}
    for tensor in parse(content[8:end], len(content) - end).tensors:
        first = struct.unpack_from("<f", content, end + tensor.begin)[0] if tensor.nbytes else 0
        if first >= MARK:
            found[int(first - MARK)] = (tensor.name, tensor.shape)
    return found


@pytest.mark.parametrize(
    ("model_class", "config_class", "fields", "convs"),
    ROWS,
    ids=[f"{row[0]}-{i}" for i, row in enumerate(ROWS)],
)
def test_every_conv_is_known_as_it_is(
    model_class: str, config_class: str, fields: dict[str, Any], convs: int, tmp_path: Path
) -> None:
    model = getattr(transformers, model_class)(getattr(transformers, config_class)(**fields))
    live = ModelSpeaker.of(model, "live").layers
    layers = [name for name, one in live.items() if one.statement.form.startswith("conv")]
    # The file has names of its own for some; the number in the weight says which is which.
    for number, name in enumerate(layers):
        model.get_submodule(name).weight.data.fill_(MARK + number)
    model.save_pretrained(tmp_path)
    speaker = ConfigSpeaker.read(tmp_path / "config.json")
    found = marked_weights(tmp_path / "model.safetensors")
    assert len(found) == len(layers) == convs
    for number, (key, shape) in found.items():
        truth, said = live[layers[number]].statement, speaker.about(key, shape)
        assert said is not None, key
        assert (said.form, said.geometry) == (truth.form, truth.geometry), key
