"""Checkpoints of transformers, as the library saves them: scan, swap, verify, restore, load."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import convsurgeon as cs
from convsurgeon.errors import NothingToDoError
from tests.transformers_cases import build, difference, inputs, left_open, quieten, save

LAYERS = {
    "ViTModel": 1,
    "ViTForImageClassification": 1,
    "CLIPModel": 1,
    "CLIPVisionModel": 1,
    "SiglipModel": 1,
    "Dinov2ForImageClassification": 1,
    "SwinForImageClassification": 1,
    "ConvNextForImageClassification": 4,  # the stem and three downsamplings
    "SegformerForImageClassification": 3,  # its spatial reductions
}
FORMS = [("linear", "c p1 p2"), ("linear", "p1 p2 c"), ("gemm", "p1 p2 c")]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    quieten()


@pytest.mark.parametrize("shard", ["1GB", "8KB"], ids=["one file", "shards"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_saved_model_is_rewritten_proved_and_put_back(
    name: str, shard: str, tmp_path: Path
) -> None:
    source = save(build(name), tmp_path / "in", max_shard_size=shard)
    assert (len(list(source.glob("*.safetensors"))) > 1) == (shard == "8KB")
    (file,) = cs.swap(source, tmp_path / "out").files
    assert len(file.plan.rewrites) == LAYERS[name]
    assert cs.verify(source, tmp_path / "out").equivalent
    cs.restore(tmp_path / "out", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(source)


@pytest.mark.parametrize(("kind", "layout"), FORMS)
@pytest.mark.parametrize("name", LAYERS)
def test_the_original_class_computes_the_same_function(
    name: str, kind: str, layout: str, tmp_path: Path
) -> None:
    original = build(name)
    source = save(original, tmp_path / "in", max_shard_size="8KB")
    cs.swap(source, tmp_path / "out", layout=layout)
    model = build(name, seed=1)
    report = cs.load(model, tmp_path / "out", kind=kind)
    assert len(report.replaced) == LAYERS[name]
    generator = torch.Generator().manual_seed(3)
    x = inputs(name, generator)
    bound = left_open(original, x, generator)
    assert difference(original, model, x, x) <= bound
    assert bound < 1e-12


def test_a_weight_in_another_order_is_far_beyond_what_is_left_open() -> None:
    original, wrong = build("ViTModel"), build("ViTModel")
    weight = wrong.embeddings.patch_embeddings.projection.weight
    with torch.no_grad():
        weight.copy_(weight.transpose(2, 3).clone())
    generator = torch.Generator().manual_seed(3)
    x = inputs("ViTModel", generator)
    assert difference(original, wrong, x, x) > 1e6 * left_open(original, x, generator)


REFUSED = {
    "ASTForAudioClassification": {"patch_embeddings.projection": "windows overlap"},
    "VitPoseForPoseEstimation": {"patch_embeddings.projection": "padding 2×2"},
    "SegformerForImageClassification": {"patch_embeddings.0.proj": "windows overlap"},
}


@pytest.mark.parametrize("name", REFUSED)
def test_overlapping_and_padded_layers_are_refused(name: str, tmp_path: Path) -> None:
    source = save(build(name), tmp_path / "in")
    (file,) = cs.scan(source).files
    for module, reason in REFUSED[name].items():
        (layer,) = [row for row in file.layers if row.key.endswith(f"{module}.weight")]
        assert layer.verdict.value == "refused"
        assert reason in layer.reason
    if file.rewrites:
        assert name == "SegformerForImageClassification"
        assert all(".sr.weight" in layer.key for layer in file.rewrites)
        return
    with pytest.raises(NothingToDoError, match="CS080"):
        cs.swap(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
