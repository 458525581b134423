"""Small models of transformers, and inputs for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from convsurgeon.proof.drift import ALLOWED

transformers = pytest.importorskip("transformers")

PERTURBATIONS = 32
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "initializer_range": 0.3,  # at 0.02 the output hardly depends on the pixels
}
IMAGE = {**SMALL, "image_size": 32, "patch_size": 4}
TEXT = {
    **SMALL,
    "vocab_size": 50,
    "max_position_embeddings": 8,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
TWO = {"text_config": TEXT, "vision_config": IMAGE}
SWIN = {
    "initializer_range": 0.3,
    "embed_dim": 8,
    "depths": [1, 1],
    "num_heads": [2, 2],
    "window_size": 2,
    "image_size": 32,
}
SEGFORMER = {
    "initializer_range": 0.3,
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [4, 8, 8, 16],
    "num_attention_heads": [1, 2, 2, 2],
    "decoder_hidden_size": 8,
    "sr_ratios": [4, 2, 2, 1],
}
VITPOSE = {"model_type": "vitpose_backbone", **SMALL, "image_size": [32, 32], "patch_size": [8, 8]}
MIXTRAL = {
    **SMALL,
    "vocab_size": 20,
    "num_key_value_heads": 1,
    "num_local_experts": 2,
    "max_position_embeddings": 8,
}
CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "ViTModel": ("ViTConfig", IMAGE),
    "ViTForImageClassification": ("ViTConfig", {**IMAGE, "num_labels": 20}),
    "CLIPModel": ("CLIPConfig", TWO),
    "CLIPVisionModel": ("CLIPVisionConfig", IMAGE),
    "SiglipModel": ("SiglipConfig", TWO),
    "Dinov2ForImageClassification": ("Dinov2Config", {**IMAGE, "mlp_ratio": 1, "num_labels": 20}),
    "SwinForImageClassification": ("SwinConfig", {**SWIN, "num_labels": 20}),
    "ConvNextForImageClassification": (
        "ConvNextConfig",
        {"hidden_sizes": [4, 8, 8, 16], "depths": [1, 1, 2, 1], "image_size": 32, "num_labels": 20},
    ),
    "SegformerForImageClassification": ("SegformerConfig", {**SEGFORMER, "num_labels": 20}),
    "ASTForAudioClassification": ("ASTConfig", SMALL),
    "VitPoseForPoseEstimation": ("VitPoseConfig", {"backbone_config": VITPOSE}),
    "MixtralForCausalLM": ("MixtralConfig", MIXTRAL),
}


def quieten() -> None:
    """Hide the progress bars of saving."""
    transformers.utils.logging.disable_progress_bar()


def build(name: str, seed: int = 0, **fields: Any) -> Any:
    """Build a model in float64."""
    config_class, known = CONFIGS[name]
    torch.manual_seed(seed)
    config = getattr(transformers, config_class)(**known, **fields)
    return getattr(transformers, name)(config).double().eval()


def save(model: Any, folder: Path, **options: Any) -> Path:
    """Save a model as its users do."""
    model.save_pretrained(folder, **options)
    return folder


def inputs(name: str, generator: torch.Generator) -> dict[str, Any]:
    """Two images, and two lines of text for the models that take both."""
    pixels = torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=generator)
    if CONFIGS[name][1] is not TWO:
        return {"pixel_values": pixels}
    ids = torch.tensor([[3, 4, 5, 1], [6, 7, 8, 1]])
    return {"pixel_values": pixels, "input_ids": ids, "attention_mask": torch.ones_like(ids)}


@torch.no_grad()
def difference(first: Any, second: Any, x: dict[str, Any], y: dict[str, Any]) -> float:
    """Largest difference between what two models make of two inputs."""
    one, other = first(**x).to_tuple(), second(**y).to_tuple()
    pairs = [(a, b) for a, b in zip(one, other, strict=True) if isinstance(a, torch.Tensor)]
    assert pairs
    return max(float((a - b).abs().max()) for a, b in pairs)


def left_open(model: Any, x: dict[str, Any], generator: torch.Generator) -> float:
    """How far an output may drift by what the model leaves open anyway.

    That is what a change of the last bit of each pixel does, times as many as `verify` allows: a sum
    in another order is rounded elsewhere, and how much that does depends on the processor.
    """
    return ALLOWED["float64"] * sensitivity(model, x, generator)


def sensitivity(model: Any, x: dict[str, Any], generator: torch.Generator) -> float:
    """How far the output moves when every pixel moves by one unit in its last place."""
    pixels, largest = x["pixel_values"], 0.0
    for _ in range(PERTURBATIONS):
        signs = torch.randint(0, 2, pixels.shape, generator=generator).double() * 2 - 1
        moved = torch.nextafter(pixels, signs * torch.inf)
        largest = max(largest, difference(model, model, x, {**x, "pixel_values": moved}))
    return largest
