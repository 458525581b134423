"""`timm:`, `torchvision:` and `diffusers:` against the libraries themselves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="models are built with it")

from convsurgeon.errors import ModelError  # noqa: E402 (after the check that torch is there)
from convsurgeon.geometry import Geometry  # noqa: E402
from convsurgeon.sources.build import build, build_beside  # noqa: E402
from convsurgeon.sources.model import ModelSpeaker  # noqa: E402

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore")]


def said(speaker: ModelSpeaker, key: str) -> tuple[Geometry | None, str | None]:
    layer = speaker.layers[key.removesuffix(".weight")]
    assert layer.shape is not None
    statement = speaker.for_names([key]).about(key, layer.shape)
    assert statement is not None
    return statement.geometry, statement.refusal.code if statement.refusal else None


def square(kernel: int, stride: int, padding: int = 0) -> Geometry:
    return Geometry((kernel,) * 2, (stride,) * 2, (padding,) * 2, (1, 1))


TIMM = [
    ("vit_base_patch16_224", "patch_embed.proj", square(16, 16), None),
    ("vit_base_patch16_224.augreg_in21k", "patch_embed.proj", square(16, 16), None),
    ("pit_b_224", "patch_embed.conv", square(14, 7), None),
    ("sequencer2d_s", "stem.proj", square(7, 7), None),
    ("focalnet_large_fl3", "stem.proj", square(7, 4, 2), None),
    ("resnetv2_50x1_bit", "stem.conv", None, "CS007"),
    ("efficientnet_x_b3", "conv_stem", square(3, 2, 1), None),
]


@pytest.mark.parametrize(("name", "module", "geometry", "code"), TIMM)
def test_timm(name: str, module: str, geometry: Geometry | None, code: str | None) -> None:
    pytest.importorskip("timm", reason="the names are its own")
    assert said(build(f"timm:{name}"), f"{module}.weight") == (geometry, code)


def test_an_unknown_name_of_timm() -> None:
    pytest.importorskip("timm", reason="the names are its own")
    with pytest.raises(ModelError, match=r"vit_bas\) .*timm\.list_models") as caught:
        build("timm:vit_bas")
    assert "\n" not in str(caught.value)


def hub_config(**fields: Any) -> dict[str, Any]:
    return {"architecture": "convnext_tiny", "num_classes": 7, "model_args": {}, **fields}


@pytest.mark.parametrize(
    ("fields", "module", "geometry"),
    [
        ({}, "stages.3.downsample.1", square(2, 2)),
        # A subclass of stride 1 stands there then: the shape does not tell.
        ({"model_args": {"output_stride": 16}}, "stages.3.downsample.1", None),
        ({"model_args": {"patch_size": 2}}, "stem.0", square(2, 2)),
        ({"model_args": {"in_chans": 1}}, "stem.0", square(4, 4)),
    ],
)
def test_timm_by_its_config(
    fields: dict[str, Any], module: str, geometry: Geometry | None, tmp_path: Path
) -> None:
    timm = pytest.importorskip("timm", reason="it reads the config")
    config = hub_config(**fields)
    config["pretrained_cfg"] = timm.get_pretrained_cfg("convnext_tiny").to_dict()
    (tmp_path / "config.json").write_text(json.dumps(config))
    speaker = build_beside(tmp_path / "config.json")
    found, code = said(speaker, f"{module}.weight")
    assert (found, code) == (geometry, None if geometry else "CS007")
    assert speaker.layers["head.fc"].shape == (7, 768)


@pytest.mark.parametrize(
    "fields",
    [
        {"architecture": "hf-hub:timm/resnet18.a1_in1k"},
        {"model_args": {"pretrained": True}},
        {"model_args": {"checkpoint_path": "evil.pth"}},
    ],
)
def test_a_config_of_timm_that_asks_for_a_file(fields: dict[str, Any], tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="it reads the config")
    (tmp_path / "config.json").write_text(json.dumps(hub_config(**fields)))
    with pytest.raises(ModelError, match="CS062"):
        build_beside(tmp_path / "config.json")


@pytest.mark.parametrize(
    ("name", "module", "geometry"),
    [
        ("vit_b_16", "conv_proj", square(16, 16)),
        ("convnext_tiny", "features.2.1", square(2, 2)),
        ("resnet50", "layer2.0.downsample.0", square(1, 2)),
        ("regnet_x_400mf", "stem.0", square(3, 2, 1)),  # reads its widths off a tensor
        ("fcn_resnet50", "backbone.conv1", square(7, 2, 3)),  # has weights of its backbone too
    ],
)
def test_torchvision(name: str, module: str, geometry: Geometry) -> None:
    pytest.importorskip("torchvision", reason="the names are its own")
    speaker = build(f"torchvision:{name}")
    assert said(speaker, f"{module}.weight") == (geometry, None)


def test_an_unknown_name_of_torchvision() -> None:
    pytest.importorskip("torchvision", reason="the names are its own")
    with pytest.raises(ModelError, match="no model 'vit_b_61'"):
        build("torchvision:vit_b_61")


WAN = {
    "_class_name": "WanTransformer3DModel",
    "num_layers": 1,
    "num_attention_heads": 2,
    "patch_size": [1, 2, 2],
    "dtype": "bfloat16",
}


def test_diffusers(tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="the class is its own")
    (tmp_path / "config.json").write_text(json.dumps(WAN))
    plain = Geometry.plain((1, 2, 2), (1, 2, 2))
    for speaker in (build(f"diffusers:{tmp_path}"), build_beside(tmp_path / "config.json")):
        assert said(speaker, "patch_embedding.weight") == (plain, None)


@pytest.mark.parametrize("name", ["WanTransformer", "DDPMScheduler", "WanPipeline", "logging"])
def test_what_is_no_model_of_diffusers(name: str, tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="the class is its own")
    (tmp_path / "config.json").write_text(json.dumps({**WAN, "_class_name": name}))
    with pytest.raises(ModelError, match="is no model of diffusers"):
        build(f"diffusers:{tmp_path}")
