"""Rows of the census by name, and checkpoints that were made of them and then changed."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from convsurgeon.header import lay_out, pack

Shape = tuple[int, ...]
Row = dict[str, Any]
Tensors = Mapping[str, tuple[str, Shape]]
Change = Callable[[Tensors], Tensors]

CENSUS = Path(__file__).with_name("census") / "census.jsonl.xz"
EVERY = 54
"""One row in so many is a sample of the whole: the file is sorted by library and name."""
NAMES = frozenset(
    {
        *(("timm", name) for name in (
            "beit_base_patch16_224", "convnext_atto", "deit_tiny_distilled_patch16_224",
            "mixer_s16_224", "pvt_v2_b0", "resnet18", "resnet50", "resnetv2_50",
            "swin_tiny_patch4_window7_224", "twins_pcpvt_small", "vit_base_patch16_224",
        )),
        *(("torchvision", name) for name in ("convnext_tiny", "squeezenet1_1", "swin_t", "vit_b_16")),
        *(("open_clip", name) for name in ("RN50", "ViT-B-32", "convnext_base")),
        *(("transformers", name) for name in (
            "audio_spectrogram_transformer.ASTModel", "clip.CLIPModel", "convnext.ConvNextModel",
            "dinov2.Dinov2Model", "segformer.SegformerModel", "siglip.SiglipVisionModel",
            "vit.ViTForImageClassification", "vitpose_backbone.VitPoseBackbone",
        )),
        *(("diffusers", name) for name in (
            "AutoencoderKL", "DiTTransformer2DModel", "SD3Transformer2DModel", "UniDiffuserModel",
        )),
    }
)  # fmt: skip
_CODES = {"float32": "F32", "int64": "I64", "bool": "BOOL", "float64": "F64", "bfloat16": "BF16"}


@cache
def _lines() -> tuple[dict[tuple[str, str], str], tuple[str, ...]]:
    """The lines of the named rows and of the sample: most of the file is never parsed."""
    named, sample = {}, []
    with lzma.open(CENSUS, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines):
            words = line[:200].split('"', 8)
            name = words[3], words[7]
            if name in NAMES:
                named[name] = line
            if number % EVERY == 0:
                sample.append(line)
    return named, tuple(sample)


@cache
def row(source: str, name: str) -> Row:
    """A row of the census."""
    found: Row = json.loads(_lines()[0][source, name])
    assert (found["source"], found["name"]) == (source, name)
    return found


def sample() -> list[Row]:
    """Rows spread evenly over the census."""
    return [json.loads(line) for line in _lines()[1]]


def tensors(source: str, name: str) -> Tensors:
    """The tensors of a row."""
    found = row(source, name)["tensors"]
    return {key: (_CODES[dtype], tuple(shape)) for key, (dtype, shape) in found.items()}


def eligible(source: str, name: str) -> set[str]:
    """The keys that may be rewritten, by the modules of the live model."""
    return {conv["key"] for conv in row(source, name)["convs"] if conv["eligible"]}


def sparse(path: Path, made: Tensors) -> Path:
    """Write a checkpoint whose data is one hole."""
    header = pack([(key, *tensor) for key, tensor in made.items()], {"format": "pt"})
    front = lay_out(header)
    with path.open("wb") as file:
        file.write(front)
        file.truncate(len(front) + header.data_bytes)
    return path
