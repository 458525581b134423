"""Same key, same shape, another answer: what the config.json beside a file decides, and shards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import convsurgeon as cs
from convsurgeon.errors import ContradictionError, ShardError
from tests.files import index_of
from tests.traps.cases import PLAIN, Answer, Tensors, save

PATCH = "embeddings.patch_embeddings.projection.weight"
SIGLIP = "vision_model.embeddings.patch_embedding.weight"
SR = "segformer.encoder.block.0.0.attention.self.sr.weight"
OVERLAP = "segformer.encoder.patch_embeddings.0.proj.weight"
RGB = ("F32", (8, 3, 16, 16))
MONO = ("F32", (8, 1, 16, 16))
YES: Answer = ("eligible", None, "stride equals kernel")
SIGLIP_CONFIG = {"model_type": "siglip_vision_model", "patch_size": 16}


@dataclass(frozen=True)
class Trap:
    """A file, the config beside it, and the right answer."""

    why: str
    config: Mapping[str, Any]
    tensors: Tensors
    answers: Mapping[str, Answer]
    to: str = "linear"


TRAPS = {
    "ViT of one channel": Trap(
        "the key and the shape of a spectrogram's patches",
        {"model_type": "vit", "architectures": ["ViTModel"], "num_channels": 1}, {PATCH: MONO}, {PATCH: YES},
    ),
    "Audio Spectrogram Transformer": Trap(
        "patches of 16 at every tenth place",
        {"model_type": "audio-spectrogram-transformer", "architectures": ["ASTModel"]}, {PATCH: MONO},
        {PATCH: ("refused", "CS001", "stride 10×10 is smaller than kernel 16×16")},
    ),
    "Audio Spectrogram Transformer, changed": Trap(
        "a fork whose patches do not overlap says so in its config",
        {"model_type": "audio-spectrogram-transformer", "architectures": ["ASTModel"], "frequency_stride": 16, "time_stride": 16},
        {PATCH: MONO}, {PATCH: YES},
    ),
    "ViT": Trap(
        "the key and the shape of ViTPose",
        {"model_type": "vit", "architectures": ["ViTModel"]}, {PATCH: RGB}, {PATCH: YES},
    ),
    "ViTPose": Trap(
        "pads by 2, which only its code says",
        {"model_type": "vitpose_backbone", "architectures": ["VitPoseBackbone"]}, {PATCH: RGB},
        {PATCH: ("refused", "CS003", "padding 2×2")},
    ),
    "SegFormer": Trap(
        "its patches overlap, the convs that shorten its attention do not",
        {"model_type": "segformer", "architectures": ["SegformerForSemanticSegmentation"]},
        {OVERLAP: ("F32", (8, 3, 7, 7)), SR: ("F32", (8, 8, 8, 8))},
        {OVERLAP: ("refused", "CS001", "windows overlap; padding 3×3"), SR: YES},
    ),
    "SigLIP 2 under SigLIP's config": Trap(
        "a matrix (p1 p2 c) under the key of a conv: in which order, no shape tells",
        SIGLIP_CONFIG, {SIGLIP: ("F32", (8, 768))},
        {SIGLIP: ("undecided", None, "says conv2d, but the weight is a matrix")}, to="conv",
    ),
    "SigLIP 2 is a Linear already": Trap(
        "nothing to do, and nothing to guess", SIGLIP_CONFIG, {SIGLIP: ("F32", (8, 768))}, {},
    ),
    "fp8 with block scales": Trap(
        "the geometry is right, the stored numbers are not the weight",
        SIGLIP_CONFIG, {SIGLIP: ("F8_E4M3", (8, 3, 16, 16)), f"{SIGLIP}_scale_inv": ("F32", (1, 1))},
        {SIGLIP: ("refused", "CS011", "weight_scale_inv")},
    ),
    "LoRA": Trap(
        "the geometry is right, an adapter depends on the form",
        SIGLIP_CONFIG, {SIGLIP: RGB, SIGLIP.replace("weight", "lora_A.weight"): ("F32", (2, 3, 16, 16))},
        {SIGLIP: ("refused", "CS012", "lora_A"), SIGLIP.replace("weight", "lora_A.weight"): ("refused", "CS012", "lora_A")},
    ),
    "a copy": Trap(
        "an average of the weights: of the same model, as far as anybody knows",
        SIGLIP_CONFIG, {SIGLIP: RGB, f"ema.{SIGLIP}": RGB},
        {SIGLIP: YES, f"ema.{SIGLIP}": ("undecided", None, "no evidence")},
    ),
    "a wrapper": Trap(
        "what torch.compile and data parallelism put in front",
        SIGLIP_CONFIG, {f"module._orig_mod.{SIGLIP}": RGB}, {f"module._orig_mod.{SIGLIP}": YES},
    ),
}  # fmt: skip


def write(folder: Path, trap: Trap) -> Path:
    (folder / "config.json").write_text(json.dumps(trap.config), "utf-8")
    return save(folder / "model.safetensors", trap.tensors, {"format": "pt"})


@pytest.mark.parametrize("trap", TRAPS.values(), ids=TRAPS)
def test_the_answer(trap: Trap, tmp_path: Path) -> None:
    found = {
        layer.key: layer for layer in cs.scan(write(tmp_path, trap), to=trap.to).files[0].layers
    }
    assert set(found) == set(trap.answers), trap.why
    for name, (verdict, code, words) in trap.answers.items():
        assert (found[name].verdict.value, found[name].code) == (verdict, code), trap.why
        assert words in found[name].reason


def test_no_answer_is_the_shapes() -> None:
    """Each of these pairs has one key, one shape, and two answers."""
    pairs = (("ViT of one channel", "Audio Spectrogram Transformer"), ("ViT", "ViTPose"))
    for first, second in ((TRAPS[a], TRAPS[b]) for a, b in pairs):
        assert first.tensors == second.tensors
        assert first.answers[PATCH][0] != second.answers[PATCH][0]


# --- channel-last without a word in the metadata

CHANNEL_LAST = {SIGLIP: ("F32", (8, 16, 16, 3))}


def test_a_config_shows_that_a_file_is_channel_last(tmp_path: Path) -> None:
    trap = Trap("MLX, metadata lost", SIGLIP_CONFIG, CHANNEL_LAST, {})
    with pytest.raises(ContradictionError, match=r"channel-last.*CS009") as caught:
        cs.scan(write(tmp_path, trap))
    assert caught.value.code == "CS061"


def test_a_user_shows_that_a_file_is_channel_last(tmp_path: Path) -> None:
    path = save(tmp_path / "model.safetensors", CHANNEL_LAST)
    with pytest.raises(ContradictionError, match=r"channel-last.*CS009"):
        cs.scan(path, geometry=["*=k16,s16"])
    (layer,) = cs.scan(path, geometry=["*=s16"]).files[0].layers
    assert layer.code == "CS002"


def test_another_kernel_is_not_called_channel_last(tmp_path: Path) -> None:
    path = save(tmp_path / "model.safetensors", PLAIN)
    with pytest.raises(ContradictionError, match="correct the evidence"):
        cs.scan(path, geometry=["*=k16,s16"])


def test_no_geometry_is_offered_that_makes_a_kernel_of_the_channels(tmp_path: Path) -> None:
    (layer,) = cs.scan(save(tmp_path / "model.safetensors", CHANNEL_LAST)).files[0].layers
    assert (layer.verdict.value, layer.hint) == ("undecided", "")
    assert "looks channel-last, see CS009" in layer.reason


# --- shards


def shards(folder: Path, second: Tensors, metadata: Mapping[str, str], *names: str) -> Path:
    save(folder / "one.safetensors", PLAIN, {"format": "pt"})
    save(folder / "two.safetensors", second, metadata)
    return index_of(
        folder, dict.fromkeys(PLAIN, "one.safetensors") | dict.fromkeys(names, "two.safetensors")
    )


def test_one_name_in_two_shards(tmp_path: Path) -> None:
    index = shards(tmp_path, PLAIN, {}, "other.weight")
    with pytest.raises(ShardError) as caught:
        cs.scan(index, geometry=["*=s4"])
    assert caught.value.code == "CS046"


@pytest.mark.parametrize(
    ("second", "metadata", "code"),
    [
        ({"other.weight": PLAIN["proj.weight"]}, {"format": "mlx"}, "CS009"),
        ({"proj.weight_scale_inv": ("F32", (1, 1))}, {}, "CS011"),
        ({"proj.lora_A.weight": ("F32", (2, 3))}, {}, "CS012"),
        ({"other": ("F32", (1,))}, {}, None),
    ],
)
def test_what_stands_in_another_shard_counts(
    second: Tensors, metadata: Mapping[str, str], code: str | None, tmp_path: Path
) -> None:
    plan = cs.scan(shards(tmp_path, second, metadata, *second), geometry=["*=s4"]).files[0]
    assert {layer.code for layer in plan.layers} == {code}
