"""Small models of transformers and diffusers, what goes into them, and which layers may change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.loader_cases import SEES, TEXT, VISION
from tests.transformers_cases import SMALL

ROPE = {
    "rope_type": "default",
    "rope_theta": 1e4,
    "mrope_section": [1, 1, 2],
    "partial_rotary_factor": 1.0,
}
GLM = ("Glm4vConfig", {**SEES, "image_size": 16})
PATCHES = {"patch_size": 2, "in_channels": 4, "num_attention_heads": 2, "num_layers": 1}
PROJ = "model.visual.patch_embed.proj"


@dataclass(frozen=True)
class Subject:
    """A class of a library in small.

    Attributes:
        library: transformers or diffusers.
        options: of its configuration; for diffusers of the class itself.
        inputs: what its forward takes.
        layers: the modules that are replaced.
        refused: the keys of the other convolutions, with their codes.
        config: the class of the configuration, for transformers.
    """

    library: str
    options: dict[str, Any]
    inputs: Callable[[], dict[str, Any]]
    layers: tuple[str, ...]
    refused: dict[str, str] = field(default_factory=dict)
    config: str = ""


def seeing() -> dict[str, Any]:
    """A prompt with an image of 4 x 4 patches, cut already, as the processors of these models do."""
    return {
        "pixel_values": torch.randn(16, 3 * 2 * 4 * 4),
        "image_grid_thw": torch.tensor([[1, 4, 4]]),
        "input_ids": torch.tensor([[5, 3, 3, 3, 3, 6, 7, 8]]),
        "mm_token_type_ids": torch.tensor([[0, 1, 1, 1, 1, 0, 0, 0]]),
        "attention_mask": torch.ones(1, 8, dtype=torch.long),
    }


def prompted() -> dict[str, Any]:
    """An image, a point, and a mask from before."""
    return {
        "pixel_values": torch.randn(1, 3, 32, 32),
        "input_points": torch.tensor([[[[4.0, 9.0]]]]),
        "input_masks": torch.randn(1, 1, 32, 32),
    }


def latents(*size: int) -> Callable[[], dict[str, Any]]:
    """Noise of this size, with a prompt in features of 8."""
    return lambda: {
        "hidden_states": torch.randn(2, *size),
        "timestep": torch.tensor([1, 2]),
        "encoder_hidden_states": torch.randn(2, 3, 8),
    }


def _seeing(name: str, *more: str) -> Subject:
    config, vision = {**VISION, "Glm4vForConditionalGeneration": GLM}[name]
    special = ("image", "video", "vision_start", "vision_end")
    ids = {f"{name}_token_id": number for number, name in enumerate(special, start=3)}
    text = {**TEXT, "rope_parameters": ROPE}
    options = {"text_config": text, "vision_config": vision, **ids}
    return Subject("transformers", options, seeing, (*more, PROJ), config=config)


SUBJECTS: dict[str, Subject] = {
    "ViTForImageClassification": Subject(
        "transformers",
        {**SMALL, "num_hidden_layers": 2, "image_size": 8, "patch_size": 4, "num_labels": 5},
        lambda: {"pixel_values": torch.randn(2, 3, 8, 8)},
        ("vit.embeddings.patch_embeddings.projection",),
        config="ViTConfig",
    ),
    **{name: _seeing(name) for name in VISION},
    "Glm4vForConditionalGeneration": _seeing(
        "Glm4vForConditionalGeneration", "model.visual.downsample"
    ),
    "ViltModel": Subject(
        "transformers",
        {**SMALL, "image_size": 16, "patch_size": 4, "vocab_size": 9},
        lambda: {
            "pixel_values": torch.randn(1, 3, 16, 16),
            "pixel_mask": torch.ones(1, 16, 16, dtype=torch.long),
            "input_ids": torch.tensor([[3, 4, 5, 1]]),
        },
        ("embeddings.patch_embeddings.projection",),
        config="ViltConfig",
    ),
    "VideoMAEModel": Subject(
        "transformers",
        {**SMALL, "image_size": 8, "patch_size": 4, "num_frames": 4, "tubelet_size": 2},
        lambda: {"pixel_values": torch.randn(2, 4, 3, 8, 8)},
        ("embeddings.patch_embeddings.projection",),
        config="VideoMAEConfig",
    ),
    "SamModel": Subject(
        "transformers",
        {
            "vision_config": {
                **SMALL,
                "mlp_dim": 8,
                "output_channels": 8,
                "num_pos_feats": 4,
                "image_size": 32,
                "patch_size": 4,
                "window_size": 2,
                "global_attn_indexes": [0],
            },
            "prompt_encoder_config": {
                "hidden_size": 8,
                "image_size": 32,
                "patch_size": 4,
                "mask_input_channels": 16,
            },
            "mask_decoder_config": {
                "hidden_size": 8,
                "mlp_dim": 8,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "iou_head_hidden_dim": 8,
            },
        },
        prompted,
        (
            *(f"prompt_encoder.mask_embed.conv{number}" for number in (1, 2, 3)),
            "vision_encoder.neck.conv1",
            "vision_encoder.patch_embed.projection",
        ),
        {
            "mask_decoder.upscale_conv1.weight": "CS006",
            "mask_decoder.upscale_conv2.weight": "CS006",
            "vision_encoder.neck.conv2.weight": "CS001",
        },
        config="SamConfig",
    ),
    "Wav2Vec2Model": Subject(
        "transformers",
        {
            **SMALL,
            "conv_dim": [8, 8, 8],
            "conv_kernel": [5, 2, 2],
            "conv_stride": [3, 2, 2],
            "num_conv_pos_embeddings": 4,
            "num_conv_pos_embedding_groups": 2,
        },
        lambda: {"input_values": torch.randn(2, 201)},
        tuple(f"feature_extractor.conv_layers.{number}.conv" for number in (1, 2)),
        {
            "feature_extractor.conv_layers.0.conv.weight": "CS001",
            **{
                f"encoder.pos_conv_embed.conv.parametrizations.weight.original{number}": "CS008"
                for number in (0, 1)
            },
        },
        config="Wav2Vec2Config",
    ),
    "SD3Transformer2DModel": Subject(
        "diffusers",
        {
            **PATCHES,
            "sample_size": 8,
            "attention_head_dim": 8,
            "joint_attention_dim": 8,
            "caption_projection_dim": 16,
            "pooled_projection_dim": 8,
            "pos_embed_max_size": 8,
            "out_channels": 4,
        },
        lambda: {**latents(4, 6, 8)(), "pooled_projections": torch.randn(2, 8)},
        ("pos_embed.proj",),
    ),
    "DiTTransformer2DModel": Subject(
        "diffusers",
        {
            **PATCHES,
            "sample_size": 8,
            "attention_head_dim": 8,
            "norm_num_groups": 2,
            "num_embeds_ada_norm": 10,
        },
        lambda: {
            "hidden_states": torch.randn(2, 4, 8, 8),
            "timestep": torch.tensor([1, 2]),
            "class_labels": torch.tensor([3, 4]),
        },
        ("pos_embed.proj",),
    ),
    "WanTransformer3DModel": Subject(
        "diffusers",
        {
            **PATCHES,
            "patch_size": (1, 2, 2),
            "attention_head_dim": 12,
            "out_channels": 4,
            "text_dim": 8,
            "freq_dim": 8,
            "ffn_dim": 8,
            "rope_max_seq_len": 32,
        },
        latents(4, 3, 7, 5),  # sizes that the kernel does not divide, as of odd videos
        ("patch_embedding",),
    ),
}


def construct(name: str) -> Any:
    """Make a model as its library does."""
    subject = SUBJECTS[name]
    library = pytest.importorskip(subject.library)
    torch.manual_seed(0)
    if not subject.config:
        return getattr(library, name)(**subject.options).eval()
    config = getattr(import_module(subject.library), subject.config)(**subject.options)
    return getattr(library, name)(config).eval()


def build(name: str) -> Any:
    """Make a model whose output depends on all of its input.

    As they are initialised some have gains of 0, behind which nothing of the input is left.
    """
    model = construct(name)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5, generator=generator)
    return model


def inputs(name: str) -> dict[str, Any]:
    """The same input at each call."""
    torch.manual_seed(2)
    return SUBJECTS[name].inputs()


@torch.no_grad()
def outputs(model: Any, given: dict[str, Any]) -> list[Tensor]:
    """All tensors that a model gives, in float64."""
    torch.manual_seed(5)  # some draw the order in which they take the patches of an image
    found = model(**given, return_dict=False)
    tensors = [one.double() for one in found if isinstance(one, Tensor) and one.is_floating_point()]
    assert tensors
    assert all(bool(one.isfinite().all()) for one in tensors)
    return tensors


def apart(first: list[Tensor], second: list[Tensor]) -> float:
    """Largest difference between two models' outputs."""
    return max(float((a - b).abs().max()) for a, b in zip(first, second, strict=True))


def tolerance(model: Any, given: dict[str, Any]) -> float:
    """How far outputs may move where sums of up to 96 products are made in another order.

    How far they move when each number that goes in is rounded once, the model leaves open itself.
    A sum in another order rounds every partial sum elsewhere, which adds up to about the square
    root of their number, ten times as much; and there may be several such layers.
    """
    want, largest = outputs(model, given), 0.0
    generator = torch.Generator().manual_seed(3)
    for _ in range(8):
        moved = {
            key: torch.nextafter(value, _signs(value, generator) * torch.inf)
            if isinstance(value, Tensor) and value.is_floating_point()
            else value
            for key, value in given.items()
        }
        largest = max(largest, apart(outputs(model, moved), want))
    return 16 * largest


def _signs(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, like.shape, generator=generator).to(like.dtype) * 2 - 1
