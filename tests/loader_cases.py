"""Checkpoints of transformers for its own loader, plain ones and wrong ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch as safetensors_torch
import torch

from convsurgeon.integrations.loaders import Loaded, load_through
from tests.transformers_cases import build, save

transformers = pytest.importorskip("transformers", reason="its loader is what is tested")
fusion = pytest.mark.skipif(
    find_spec("transformers.fusion_mapping") is None,
    reason="this transformers fuses no patch embeddings",
)
PATCH = "embeddings.patch_embeddings.projection.weight"
TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 8,
    "vocab_size": 20,
    "max_position_embeddings": 8,
    "head_dim": 8,
    "rope_scaling": {"rope_type": "default", "mrope_section": [1, 1, 2]},
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
TOWER = {"depth": 1, "num_heads": 2, "patch_size": 4, "temporal_patch_size": 2, "hidden_size": 16}
SEES = {**TOWER, "intermediate_size": 8, "out_hidden_size": 16}
VISION: dict[str, tuple[str, dict[str, Any]]] = {
    "Qwen2VLForConditionalGeneration": (
        "Qwen2VLConfig",
        {**TOWER, "embed_dim": 16, "mlp_ratio": 1},
    ),
    "Qwen2_5_VLForConditionalGeneration": (
        "Qwen2_5_VLConfig",
        {**SEES, "fullatt_block_indexes": [0], "window_size": 16},
    ),
    "Qwen3VLForConditionalGeneration": (
        "Qwen3VLConfig",
        {**SEES, "deepstack_visual_indexes": [0], "num_position_embeddings": 16},
    ),
}


def saved(name: str, folder: Path, **options: Any) -> Path:
    return save(build(name).float(), folder, **options)


def qwen(name: str, folder: Path, *, tower: bool = False) -> Path:
    config_class, vision = VISION[name]
    torch.manual_seed(0)
    config = getattr(transformers, config_class)(text_config=TEXT, vision_config=vision)
    model = getattr(transformers, name)(config)
    return save(model.model.visual if tower else model, folder)


def reconfigured(folder: Path, **fields: Any) -> Path:
    path = folder / "config.json"
    config = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    return folder


def fused(folder: Path) -> Path:
    return reconfigured(folder, fusion_config={"patch_embeddings": True})


def rewritten(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    tensors = safetensors_torch.load_file(folder / "model.safetensors")
    change(tensors)
    safetensors_torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def load(path: Path) -> Loaded:
    return load_through("transformers", path)


def complaints(path: Path) -> list[str]:
    return list(load(path).complaints)
