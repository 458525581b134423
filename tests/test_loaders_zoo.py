"""Loading through diffusers and timm, and every fusion of transformers that is known."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch as safetensors_torch
import torch

import convsurgeon as cs
from convsurgeon.errors import ModelError
from convsurgeon.integrations.loaders import Loaded, differences, load_through, through
from convsurgeon.integrations.loaders import diffusers as of_diffusers
from convsurgeon.integrations.loaders import timm as of_timm
from tools.zoo.models import prepare

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore")]

HEADS = {"num_layers": 1, "attention_head_dim": 8, "num_attention_heads": 2}
IMAGE = {"sample_size": 8, "patch_size": 2, "in_channels": 4}
DIFFUSERS: dict[str, dict[str, Any]] = {
    "SD3Transformer2DModel": {
        **IMAGE,
        **HEADS,
        "joint_attention_dim": 8,
        "caption_projection_dim": 16,
        "pooled_projection_dim": 8,
        "out_channels": 4,
        "pos_embed_max_size": 8,
    },
    "DiTTransformer2DModel": {**IMAGE, **HEADS, "norm_num_groups": 2, "num_embeds_ada_norm": 10},
    "AutoencoderKL": {"block_out_channels": (8,), "norm_num_groups": 2},
}
PATCH = "pos_embed.proj.weight"
TIMM: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {"img_size": 32, "depth": 1},
    "mixer_s32_224": {"img_size": 32},
    "swin_tiny_patch4_window7_224": {"img_size": 56},
    "convnext_atto": {},
}


@pytest.fixture(autouse=True)
def _importable() -> None:
    prepare()


def rewritten(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    tensors = safetensors_torch.load_file(path)
    change(tensors)
    safetensors_torch.save_file(tensors, path, {"format": "pt"})
    return path


def diffusing(name: str, folder: Path, **options: Any) -> Any:
    diffusers = pytest.importorskip("diffusers", reason="its loader is what is tested")
    torch.manual_seed(0)
    model = getattr(diffusers, name)(**DIFFUSERS[name])
    model.save_pretrained(folder, **options)
    return model


def imaging(name: str, folder: Path, **fields: Any) -> Any:
    timm = pytest.importorskip("timm", reason="its loader is what is tested")
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=7, **TIMM[name]).eval()
    config = {"num_classes": 7, **TIMM[name]}
    timm.models.save_for_hf(model, folder, model_args=config, safe_serialization=True)
    return model


def same(model: Any, found: Loaded) -> bool:
    return found.model is not None and differences(model, found.model) == ()


@pytest.mark.parametrize("name", DIFFUSERS)
def test_what_diffusers_saved_it_loads(name: str, tmp_path: Path) -> None:
    model = diffusing(name, tmp_path / "one")
    diffusing(name, tmp_path / "shards", max_shard_size="3KB")
    index = tmp_path / "shards" / "diffusion_pytorch_model.safetensors.index.json"
    renamed = index.rename(index.with_name("mine.safetensors.index.json"))
    for path in (tmp_path / "one", renamed):
        found = load_through("diffusers", path)
        assert found.complaints == ()
        assert same(model, found)
        assert found.source.startswith("diffusers ")
        assert found.source.endswith(f": {name}")


@pytest.mark.parametrize("name", DIFFUSERS)
def test_diffusers_refuses_a_swapped_file(name: str, tmp_path: Path) -> None:
    diffusing(name, tmp_path / "in")
    report = cs.swap(tmp_path / "in", tmp_path / "out")
    lines = load_through("diffusers", tmp_path / "out").complaints
    assert len(lines) == len(report.files[0].plan.rewrites) > 0
    assert all(" in the file, [" in line for line in lines)
    if name != "AutoencoderKL":
        assert lines == (f"{PATCH} has shape [16, 16] in the file, [16, 4, 2, 2] in the model",)


def silent(field: str) -> Callable[..., Any]:
    """The loader of diffusers that says nothing of one kind."""
    nothing: dict[str, Any] = {field: ()}
    return lambda *given: replace(of_diffusers.load(*given), **nothing)


def case_renamed(folder: Path) -> None:
    """The library leaves the weight unwritten, and says so in its log."""
    diffusing("DiTTransformer2DModel", folder)
    file = folder / "diffusion_pytorch_model.safetensors"
    rewritten(file, lambda t: t.update({"pos_embed.proj.linear.weight": t.pop(PATCH)}))
    assert load_through("diffusers", file).complaints == (
        f"{PATCH} is newly initialised: the file has no such tensor",
        "pos_embed.proj.linear.weight in the file is not used by the model",
    )


def case_unheard(folder: Path) -> None:
    """The same from a library that says nothing."""
    diffusing("DiTTransformer2DModel", folder)
    file = rewritten(folder / "diffusion_pytorch_model.safetensors", lambda t: t.pop(PATCH))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(through, "_LOADERS", {"diffusers": silent("missing")})
        assert load_through("diffusers", file).complaints == (
            f"{PATCH} is newly initialised: not all its values come from the file",
        )


def case_head(folder: Path) -> None:
    """timm drops a classifier of another size, and logs what is missing then."""
    imaging("vit_tiny_patch16_224", folder)
    config = folder / "config.json"
    config.write_text(config.read_text().replace('"num_classes": 7', '"num_classes": 5', 1))
    assert load_through("timm", folder).complaints == (
        "head.bias is newly initialised: the file has no such tensor",
        "head.weight is newly initialised: the file has no such tensor",
    )


def case_strict(folder: Path) -> None:
    imaging("vit_tiny_patch16_224", folder)

    def change(tensors: dict[str, Any]) -> None:
        tensors["more"] = tensors.pop("norm.bias")
        tensors["norm.weight"] = torch.ones(3)

    rewritten(folder / "model.safetensors", change)
    found = load_through("timm", folder)
    assert found.model is None
    assert found.complaints == (
        "norm.weight has shape [3] in the file, [192] in the model",
        "norm.bias is newly initialised: the file has no such tensor",
        "more in the file is not used by the model",
    )


CASES = {"renamed": case_renamed, "unheard": case_unheard, "head": case_head, "strict": case_strict}


@contextmanager
def deaf(_: str) -> Any:
    yield []


SABOTAGE: dict[str, tuple[Any, str, Any]] = {
    "renamed": (through, "_LOADERS", {"diffusers": silent("unexpected")}),
    "unheard": (through, "made_up", lambda *_: ()),
    "head": (of_timm, "_overheard", deaf),
    "strict": (of_timm, "_overheard", deaf),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_is_said(name: str, tmp_path: Path) -> None:
    CASES[name](tmp_path)


@pytest.mark.parametrize("name", CASES)
def test_each_check_is_needed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*SABOTAGE[name])
    with pytest.raises(AssertionError):
        CASES[name](tmp_path)


def test_a_class_that_diffusers_cannot_load_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    diffusing("DiTTransformer2DModel", tmp_path)
    diffusers = import_module("diffusers")
    monkeypatch.setattr(diffusers.DiTTransformer2DModel, "_keep_in_fp32_modules", ["proj"])
    if find_spec("accelerate"):
        assert load_through("diffusers", tmp_path).complaints == ()
    else:
        with pytest.raises(ModelError, match=r"with the library accelerate only .*CS062"):
            load_through("diffusers", tmp_path)


@pytest.mark.parametrize("library", ["transformers", "timm"])
def test_a_config_of_another_library(library: str, tmp_path: Path) -> None:
    pytest.importorskip(library, reason="it is to say no")
    diffusing("DiTTransformer2DModel", tmp_path)
    with pytest.raises(ModelError, match="CS062"):
        load_through(library, tmp_path)


@pytest.mark.parametrize("name", TIMM)
def test_what_timm_saved_it_loads(name: str, tmp_path: Path) -> None:
    model = imaging(name, tmp_path)
    found = load_through(
        "timm", (tmp_path / "model.safetensors").rename(tmp_path / "a.safetensors")
    )
    assert found.complaints == ()
    assert same(model, found)
    assert found.model is not None
    assert not found.model.training
    assert found.source.endswith(f": {name}")


@pytest.mark.parametrize("name", [name for name in TIMM if not name.startswith("vit_")])
def test_timm_refuses_a_swapped_file(name: str, tmp_path: Path) -> None:
    imaging(name, tmp_path / "in")
    cs.swap(tmp_path / "in", tmp_path / "out", only="patchify")
    found = load_through("timm", tmp_path / "out")
    assert found.model is None
    reason = "AssertionError" if name.startswith("swin_") else " in the file, ["
    assert found.complaints
    assert all(reason in line for line in found.complaints)


@pytest.mark.parametrize(("layout", "right"), [("c p1 p2", True), ("p1 p2 c", False)])
def test_timm_turns_a_flat_weight_of_a_vision_transformer_back(
    layout: str, right: bool, tmp_path: Path
) -> None:
    """It takes every such weight for channel first: no name, no shape and no log says otherwise."""
    model = imaging("vit_tiny_patch16_224", tmp_path / "in")
    cs.swap(tmp_path / "in", tmp_path / "out", layout=layout)
    found = load_through("timm", tmp_path / "out")
    assert found.complaints == ()
    assert same(model, found) is right
    if not right:
        other: Any = found.model
        assert differences(model, other) == (
            "patch_embed.proj.weight has other values than from the original",
        )
        image = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            assert (model.patch_embed(image) - other.patch_embed(image)).abs().max() > 0.1


def test_timm_reads_no_shards(tmp_path: Path) -> None:
    imaging("vit_tiny_patch16_224", tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "m-1.safetensors")
    names = safetensors_torch.load_file(tmp_path / "m-1.safetensors")
    index = tmp_path / "m.safetensors.index.json"
    weights = ", ".join(f'"{name}": "m-1.safetensors"' for name in names)
    index.write_text(f'{{"weight_map": {{{weights}}}}}')
    with pytest.raises(ModelError, match=r"the library reads no shards .*CS062"):
        load_through("timm", index)


FUSED = [
    ("Qwen2VLForConditionalGeneration", False),
    ("Qwen2_5_VLForConditionalGeneration", False),
    ("Qwen3VLForConditionalGeneration", True),
]


@pytest.mark.parametrize(("name", "right"), FUSED)
@pytest.mark.parametrize("tower", [False, True])
def test_fusions_of_transformers(name: str, right: bool, tower: bool, tmp_path: Path) -> None:
    cases = pytest.importorskip("tests.loader_cases", reason="needs transformers")
    path = cases.qwen(name, tmp_path / "in", tower=tower)
    assert cases.complaints(path) == []
    cs.swap(path, tmp_path / "out")
    assert len(cases.complaints(tmp_path / "out")) == 1
    stored = safetensors_torch.load_file(path / "model.safetensors")
    kernel = next(v for k, v in stored.items() if k.endswith("patch_embed.proj.weight"))
    for folder in (path, tmp_path / "out"):
        found = cases.load(cases.fused(folder))
        assert (found.complaints == ()) is (right or tower)
        own = dict(found.model.named_parameters())
        weight = next(v for k, v in own.items() if k.endswith("patch_embed.linear_proj.weight"))
        assert torch.equal(weight, kernel.flatten(1)) is (right or tower)
