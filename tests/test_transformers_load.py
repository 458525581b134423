"""`load` into models of transformers: names, merged tensors, ties, base models, no memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch as safetensors_torch
import torch

import convsurgeon as cs
from convsurgeon.errors import MismatchError
from tests.transformers_cases import build, quieten, save


@pytest.fixture(autouse=True)
def _quiet() -> None:
    quieten()


def stored(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = safetensors_torch.load_file(folder / "model.safetensors")
    return found


def store(tensors: dict[str, Any], path: Path) -> Path:
    safetensors_torch.save_file(tensors, path)
    return path


def same(first: Any, second: Any) -> bool:
    one, other = first.state_dict(), second.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("name", ["ViTModel", "CLIPModel", "MixtralForCausalLM"])
@pytest.mark.parametrize("shard", ["1GB", "4KB"])
def test_saved_names_and_merged_tensors(name: str, shard: str, tmp_path: Path) -> None:
    original, model = build(name), build(name, seed=1)
    save(original, tmp_path / "in", max_shard_size=shard)
    assert cs.load(model, tmp_path / "in").replaced == ()
    assert same(original, model)


def test_half_of_what_is_merged_is_no_whole(tmp_path: Path) -> None:
    tensors = stored(save(build("MixtralForCausalLM"), tmp_path))
    key = next(key for key in tensors if key.endswith("experts.1.w3.weight"))
    del tensors[key]
    model, untouched = build("MixtralForCausalLM", seed=1), build("MixtralForCausalLM", seed=1)
    with pytest.raises(MismatchError, match="CS084"):
        cs.load(model, store(tensors, tmp_path / "half.safetensors"))
    assert same(model, untouched)


def test_names_of_the_model_itself_are_taken_too(tmp_path: Path) -> None:
    original, model = build("ViTModel"), build("ViTModel", seed=1)
    cs.load(model, store(original.state_dict(), tmp_path / "own.safetensors"))
    assert same(original, model)


def test_what_a_swapped_model_saves_loads_again(tmp_path: Path) -> None:
    save(build("ViTModel"), tmp_path / "in")
    cs.swap(tmp_path / "in", tmp_path / "out")
    model, again = build("ViTModel", seed=1), build("ViTModel", seed=2)
    cs.load(model, tmp_path / "out")
    save(model, tmp_path / "saved")
    cs.load(again, tmp_path / "out")
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()
    assert cs.load(again, tmp_path / "saved").replaced == ()
    assert same(model, again)


def test_tied_weights_stand_in_the_file_once(tmp_path: Path) -> None:
    original = build("MixtralForCausalLM", tie_word_embeddings=True)
    tensors = stored(save(original, tmp_path))
    assert "lm_head.weight" not in tensors
    model = build("MixtralForCausalLM", seed=1, tie_word_embeddings=True)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    cs.load(model, tmp_path)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert same(original, model)
    with pytest.raises(MismatchError, match="1 missing: lm_head"):
        cs.load(build("MixtralForCausalLM", tie_word_embeddings=False), tmp_path)


def test_a_base_model_has_no_head(tmp_path: Path) -> None:
    save(build("ViTModel", add_pooling_layer=False), tmp_path / "base")
    model = build("ViTForImageClassification", seed=1)
    untouched = build("ViTForImageClassification", seed=1)
    parts = "2 missing: classifier.bias, classifier.weight; 2 unexpected: pooler"
    with pytest.raises(MismatchError, match=parts):
        cs.load(model, tmp_path / "base")
    assert same(model, untouched)


def test_buffers_of_old_files_are_left_there(tmp_path: Path) -> None:
    original, model = build("CLIPVisionModel"), build("CLIPVisionModel", seed=1)
    tensors = stored(save(original, tmp_path))
    prefix = next(iter(sorted(tensors))).partition("embeddings.")[0]
    old = f"{prefix}embeddings.position_ids"
    tensors[old] = torch.arange(65)[None]
    report = cs.load(model, store(tensors, tmp_path / "old.safetensors"))
    assert report.ignored == (old,)
    assert report.tensors == len(tensors) - 1
    assert same(original, model)


def test_a_model_without_memory(tmp_path: Path) -> None:
    original = build("ViTForImageClassification")
    save(original, tmp_path / "in")
    cs.swap(tmp_path / "in", tmp_path / "out")
    with torch.device("meta"):
        model = build("ViTForImageClassification", seed=1)
    cs.load(model, tmp_path / "out")
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(original(x).logits, model(x).logits)


def test_a_weight_that_the_library_converts_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversion_mapping = pytest.importorskip("transformers.conversion_mapping")
    core_model_loading = pytest.importorskip("transformers.core_model_loading")
    save(build("ViTModel"), tmp_path / "in")
    cs.swap(tmp_path / "in", tmp_path / "out")

    def convert(_: Any, tensors: Any, *, target_patterns: Any, **__: Any) -> Any:
        return {target_patterns[0]: next(iter(tensors.values()))}

    same_op = type("Same", (core_model_loading.Transpose,), {"convert": convert})
    pattern = "projection.weight"
    entry = core_model_loading.WeightConverter(pattern, pattern, [same_op()])
    monkeypatch.setattr(conversion_mapping, "get_model_conversion_mapping", lambda _: [entry])
    with pytest.raises(MismatchError, match="converts this weight itself"):
        cs.load(build("ViTModel"), tmp_path / "out")


def test_a_conversion_that_fails_is_refused_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core_model_loading = pytest.importorskip("transformers.core_model_loading")

    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("out of luck")

    save(build("MixtralForCausalLM"), tmp_path)
    model, untouched = build("MixtralForCausalLM", seed=1), build("MixtralForCausalLM", seed=1)
    monkeypatch.setattr(core_model_loading.MergeModulelist, "convert", fail)
    with pytest.raises(MismatchError, match=r"conversion to .* fails: out of luck \[CS084\]"):
        cs.load(model, tmp_path)
    assert same(model, untouched)
