"""A config's statements: the file as hostile data, the table of facts, and its fields."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from convsurgeon.errors import ContradictionError, RefusedError
from convsurgeon.evidence import Level, Statement
from convsurgeon.geometry import Geometry
from convsurgeon.sources.config import ConfigSpeaker
from convsurgeon.sources.config_file import MAX_BYTES

G = Geometry
SAMPLES = Path(__file__).parent.parent / "sample_checkpoints"
PATCH = "embeddings.patch_embeddings.projection.weight"
CLIP = "vision_model.embeddings.patch_embedding.weight"


def speaker(**config: Any) -> ConfigSpeaker:
    return ConfigSpeaker.parse(json.dumps(config).encode())


def geometry(config: ConfigSpeaker, key: str, shape: tuple[int, ...]) -> Geometry | None:
    said = config.about(key, shape)
    return said.geometry if said else None


# --- the file


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no JSON"),
        (b'{"model_type": "vit"', "no JSON"),
        (b"[]", "no JSON object"),
        (b'"vit"', "no JSON object"),
        (b"null", "no JSON object"),
        (b"\xff{}", "byte 0 is not UTF-8"),
        (b"\xef\xbb\xbf{}", "no JSON"),
        (b'{"patch_size": 16, "patch_size": 8}', "'patch_size' stands twice"),
        (b'{"a": {"b": 1, "b": 1}}', "'b' stands twice"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "more than 40 characters"),
        (b" " * (MAX_BYTES + 1), "more than"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_content_that_is_no_config(content: bytes, why: str) -> None:
    with pytest.raises(RefusedError, match=why) as caught:
        ConfigSpeaker.parse(content)
    assert caught.value.code == "CS063"
    assert caught.value.where == "config.json"


def test_read(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"model_type": "vit"}')
    assert ConfigSpeaker.read(path).note == ""


def test_paths_that_cannot_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, why in (("fifo", "no regular file"), ("none", "No such file"), (".", "directory")):
        with pytest.raises(RefusedError, match=why) as caught:
            ConfigSpeaker.read(tmp_path / name)
        assert caught.value.code == "CS063"


# --- which configs are believed


@pytest.mark.parametrize(
    ("config", "note"),
    [
        ({}, "no model_type"),
        ({"model_type": None}, "no model_type"),
        (
            {"model_type": "no_such"},
            "model_type 'no_such' is not in the table of known configurations",
        ),
        (
            {"model_type": "vit", "auto_map": {"AutoModel": "modeling.Vit"}},
            "auto_map replaces the code of model_type 'vit'",
        ),
        (
            {"model_type": "clip", "architectures": ["StableDiffusionSafetyChecker"]},
            "class 'StableDiffusionSafetyChecker' is not known for model_type 'clip'",
        ),
        ({"model_type": "vit", "architectures": ["ViTModel"]}, ""),
        ({"model_type": "vit", "architectures": None}, ""),
    ],
)
def test_note(config: dict[str, Any], note: str) -> None:
    said = speaker(**config)
    assert said.note == (f"config.json: {note}" if note else "")
    assert (geometry(said, PATCH, (768, 3, 16, 16)) is None) is bool(note)


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"model_type": 3}, "model_type"),
        ({"model_type": "vit", "architectures": "ViTModel"}, "architectures"),
        ({"model_type": "vit", "architectures": [1]}, "architectures"),
        ({"model_type": "vit", "patch_size": "16"}, "patch_size"),
        ({"model_type": "vit", "patch_size": None}, "patch_size"),
        ({"model_type": "vit", "patch_size": True}, "patch_size"),
        ({"model_type": "vit", "patch_size": 16.0}, "patch_size"),
        ({"model_type": "vit", "patch_size": 0}, "patch_size"),
        ({"model_type": "vit", "patch_size": 10**12}, "patch_size"),
        ({"model_type": "vit", "patch_size": []}, "patch_size"),
        ({"model_type": "vit", "patch_size": [16]}, "patch_size"),
        ({"model_type": "vit", "patch_size": [16, True]}, "patch_size"),
        ({"model_type": "vit", "patch_size": [2, 16, 16]}, "patch_size"),
        ({"model_type": "audio-spectrogram-transformer", "time_stride": False}, "time_stride"),
        ({"model_type": "segformer", "strides": 4}, "strides"),
        ({"model_type": "segformer", "sr_ratios": [8, "4"]}, "sr_ratios"),
        ({"model_type": "clip", "vision_config": [1]}, "vision_config"),
        ({"model_type": "clip", "vision_config": {"model_type": 1}}, "vision_config"),
        (
            {"model_type": "clip", "vision_config": {"patch_size": "a"}},
            "vision_config.patch_size",
        ),
        ({"model_type": "vit_digits"}, "patch_size"),
        ({"model_type": "lenet_digits", "conv_kernel_size": 5, "conv_stride": 1}, "head_input"),
    ],
)
def test_fields_of_a_wrong_type_are_named(config: dict[str, Any], field: str) -> None:
    config = {"architectures": None, **config}
    with pytest.raises(RefusedError, match=re.escape(field)) as caught:
        speaker(**config)
    assert caught.value.code == "CS063"


# --- what they say


@pytest.mark.parametrize(
    ("config", "key", "shape", "form", "expected", "source"),
    [
        (
            {"model_type": "vit", "patch_size": 8},
            f"vit.{PATCH}",
            (768, 3, 8, 8),
            "conv2d",
            G.plain((8, 8), (8, 8)),
            "patch_size 8",
        ),
        (
            {"model_type": "vit", "patch_size": [16, 8]},
            PATCH,
            (768, 3, 16, 8),
            "conv2d",
            G.plain((16, 8), (16, 8)),
            "patch_size [16, 8]",
        ),
        (
            {"model_type": "dinov2"},
            f"module._orig_mod.dinov2.{PATCH}",
            (768, 3, 14, 14),
            "conv2d",
            G.plain((14, 14), (14, 14)),
            "patch_size 14 by default",
        ),
        (
            {"model_type": "swin", "architectures": ["SwinForMaskedImageModeling"]},
            "decoder.0.weight",
            (3072, 768, 1, 1),
            "conv2d",
            G.plain((1, 1), (1, 1)),
            "model_type swin",
        ),
        (
            {"model_type": "clip", "vision_config": {"patch_size": 14}},
            CLIP,
            (8, 3, 14, 14),
            "conv2d",
            G.plain((14, 14), (14, 14)),
            "vision_config.patch_size 14",
        ),
        (
            {"model_type": "siglip"},
            CLIP,
            (8, 3, 16, 16),
            "conv2d",
            G.plain((16, 16), (16, 16)),
            "vision_config.patch_size 16 by default",
        ),
        (
            {"model_type": "audio-spectrogram-transformer", "time_stride": 12},
            PATCH,
            (768, 1, 16, 16),
            "conv2d",
            G.plain((16, 16), (10, 12)),
            "patch_size 16 by default, frequency_stride 10 by default, time_stride 12",
        ),
        (
            {"model_type": "vitpose_backbone"},
            PATCH,
            (768, 3, 16, 16),
            "conv2d",
            G((16, 16), (16, 16), (2, 2), (1, 1)),
            "patch_size [16, 16] by default",
        ),
        (
            {"model_type": "convnext"},
            "convnext.encoder.stages.3.layers.2.dwconv.weight",
            (768, 1, 7, 7),
            "conv2d",
            G((7, 7), (1, 1), (3, 3), (1, 1), 768),
            "model_type convnext",
        ),
        (
            {"model_type": "segformer", "strides": [4, 2, 2, 2]},
            "segformer.encoder.patch_embeddings.0.proj.weight",
            (32, 3, 7, 7),
            "conv2d",
            G((7, 7), (4, 4), (3, 3), (1, 1)),
            "patch_sizes 7 by default, strides 4",
        ),
        (
            {"model_type": "segformer"},
            "stages.1.blocks.0.attention.sequence_reduction.sequence_reduction.weight",
            (64, 64, 4, 4),
            "conv2d",
            G.plain((4, 4), (4, 4)),
            "sr_ratios 4 by default",
        ),
    ],
)
def test_statements(
    config: dict[str, Any],
    key: str,
    shape: tuple[int, ...],
    form: str,
    expected: Geometry,
    source: str,
) -> None:
    said = speaker(**config).about(key, shape)
    assert said == Statement(Level.CONFIG, f"config.json: {source}", form, expected)


@pytest.mark.parametrize(
    ("config", "key", "shape"),
    [
        ({"model_type": "vit"}, PATCH.removesuffix("weight") + "bias", (768,)),
        ({"model_type": "vit"}, "weight", (768, 3, 16, 16)),
        ({"model_type": "vit"}, f"x{PATCH}", (768, 3, 16, 16)),
        ({"model_type": "vit"}, f"teacher.vit.{PATCH}", (768, 3, 16, 16)),
        ({"model_type": "vit"}, f"{PATCH}.weight", (768, 3, 16, 16)),
        # A head's row holds only for the class that has that head.
        ({"model_type": "vit"}, "decoder.0.weight", (768, 768, 1, 1)),
        (
            {"model_type": "vit", "architectures": ["ViTModel"]},
            "decoder.0.weight",
            (768, 768, 1, 1),
        ),
        ({"model_type": "convnext"}, "encoder.stages.0.layers.0.dwconv.weight", (8, 8, 7, 7)),
        # More stages than the config has, in a number that is no reasonable one too.
        ({"model_type": "segformer"}, "encoder.patch_embeddings.4.proj.weight", (8, 8, 3, 3)),
        (
            {"model_type": "segformer"},
            f"encoder.patch_embeddings.{'0' * 10_000}.proj.weight",
            (8, 8, 3, 3),
        ),
        ({"model_type": "segformer"}, "encoder.patch_embeddings.².proj.weight", (8, 8, 3, 3)),
        # Backbones of another type than the one that the class was built with.
        (
            {"model_type": "vitpose", "backbone_config": {"model_type": "vit"}},
            f"backbone.{PATCH}",
            (768, 3, 16, 16),
        ),
        ({"model_type": "clip", "vision_config": {"model_type": "vit"}}, CLIP, (8, 3, 32, 32)),
        ({"model_type": "clip", "vision_config": {"auto_map": {"a": "b"}}}, CLIP, (8, 3, 32, 32)),
        ({"model_type": "vitpose"}, "head.deconv1.weight", (768, 256, 4, 4)),
    ],
)
def test_silence(config: dict[str, Any], key: str, shape: tuple[int, ...]) -> None:
    said = speaker(**config).about(key, shape)
    assert said is None or said.empty


@pytest.mark.parametrize("old", [{"patch_size": 14}, None], ids=str)
def test_the_old_name_of_a_section_may_say_the_same(old: dict[str, int] | None) -> None:
    config = speaker(model_type="clip", vision_config={"patch_size": 14}, vision_config_dict=old)
    assert geometry(config, CLIP, (8, 3, 14, 14)) == G.plain((14, 14), (14, 14))


@pytest.mark.parametrize("old", [{"patch_size": 16}, {}], ids=str)
def test_the_old_name_of_a_section_may_not_say_otherwise(old: dict[str, int]) -> None:
    config = speaker(model_type="clip", vision_config={"patch_size": 14}, vision_config_dict=old)
    assert "vision_config_dict and vision_config differ in patch_size" in config.note
    said = config.about(CLIP, (8, 3, 14, 14))
    assert said is not None
    assert said.empty


def test_a_kernel_that_the_weight_does_not_have_is_left_to_the_plan() -> None:
    found = geometry(speaker(model_type="vit", patch_size=8), PATCH, (768, 3, 16, 16))
    assert found == G.plain((8, 8), (8, 8))


# --- the samples


@pytest.mark.parametrize(
    ("sample", "key", "shape", "expected"),
    [
        ("vit_digits", "patch_embed.proj", (64, 1, 2, 2), G.plain((2, 2), (2, 2))),
        ("jit_digits", "x_embedder.proj1", (8, 1, 4, 4), G.plain((4, 4), (4, 4))),
        ("jit_digits", "x_embedder.proj2", (64, 8, 1, 1), G.plain((1, 1), (1, 1))),
        ("clip3d_digits", "embed.proj", (64, 1, 2, 4, 4), G.plain((2, 4, 4), (2, 4, 4))),
        ("lenet_digits", "features.0", (6, 1, 5, 5), G.plain((5, 5), (1, 1))),
        ("lenet_digits", "features.3", (16, 6, 5, 5), G.plain((5, 5), (1, 1))),
        ("lenet_digits", "classifier.1", (120, 256), G.plain((4, 4), (1, 1))),
        ("lenet_digits", "classifier.3", (84, 120), None),
    ],
)
def test_samples(sample: str, key: str, shape: tuple[int, ...], expected: Geometry | None) -> None:
    said = ConfigSpeaker.read(SAMPLES / sample / "config.json").about(f"{key}.weight", shape)
    assert said is not None
    assert said.geometry == expected
    assert said.form == ("linear" if len(shape) == 2 else f"conv{len(shape) - 2}d")


def test_a_linear_with_other_inputs_is_a_contradiction() -> None:
    lenet = ConfigSpeaker.read(SAMPLES / "lenet_digits" / "config.json")
    with pytest.raises(ContradictionError, match=r"256 inputs.*\[120, 400\]") as caught:
        lenet.about("classifier.1.weight", (120, 400))
    assert caught.value.code == "CS061"
