"""What `load_through` looks for in transformers, one case each; without its check, a case fails."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from convsurgeon.integrations.loaders import through
from convsurgeon.integrations.loaders import transformers as loader
from tests.loader_cases import (
    PATCH,
    complaints,
    fused,
    fusion,
    load,
    qwen,
    rewritten,
    saved,
    transformers,
)
from tests.transformers_cases import quieten

SCALE, BIAS = "layernorm.weight", "layernorm.bias"


@pytest.fixture(autouse=True)
def _quiet() -> None:
    quieten()


def case_missing(folder: Path) -> None:
    """A zero that the library puts in: only its own account can tell it from the file's."""
    path = rewritten(saved("ViTModel", folder), lambda t: t.pop(BIAS))
    assert complaints(path) == [
        f"{BIAS} is newly initialised: the file has no such tensor",
    ]


def case_unexpected(folder: Path) -> None:
    path = rewritten(saved("ViTModel", folder), lambda t: t.update(more=torch.ones(2)))
    assert complaints(path) == ["more in the file is not used by the model"]


def case_mismatched(folder: Path) -> None:
    path = rewritten(saved("ViTModel", folder), lambda t: t.update({BIAS: torch.ones(2)}))
    assert complaints(path) == [f"{BIAS} has shape [2] in the file, [16] in the model"]


def case_doubled(folder: Path) -> None:
    """Two names of one tensor: the library takes the first and calls it a clean load."""
    own = "layers.0.attention.q_proj.weight"
    old = "encoder.layer.0.attention.attention.query.weight"
    path = rewritten(saved("ViTModel", folder), lambda t: t.update({own: t[old] + 1}))
    assert complaints(path) == [f"{old} and {own} in the file are both {own}: the model takes one"]


def case_unconverted(folder: Path) -> None:
    """Half of what is merged: the library raises, and the reason is in its log only."""
    path = saved("MixtralForCausalLM", folder)
    rewritten(path, lambda t: t.pop("model.layers.0.block_sparse_moe.experts.1.w3.weight"))
    found = load(path)
    assert found.model is None
    assert len(found.complaints) == 1
    assert found.complaints[0].startswith(
        "model.layers.0.mlp.experts.gate_up_proj cannot be converted: Sizes of tensors must match"
    )


def case_hidden(folder: Path) -> None:
    """A library without an account of its own: what was drawn, and what is a constant."""
    path = rewritten(saved("ViTModel", folder), lambda t: (t.pop(PATCH), t.pop(SCALE)))
    with pytest.MonkeyPatch.context() as patch:
        _silence(patch)
        assert complaints(path) == [
            f"{name} is newly initialised: not all its values come from the file"
            for name in (PATCH, SCALE)
        ]


def case_overwritten(folder: Path) -> None:
    """The file has the tensor, and the library writes over a part of it after loading."""
    path, known = saved("ViTModel", folder), transformers.PreTrainedModel.tie_weights

    def tie(model: Any, *args: Any, **options: Any) -> Any:
        with torch.no_grad():
            model.embeddings.cls_token[..., -1] = -1.0
        return known(model, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformers.PreTrainedModel, "tie_weights", tie)
        assert complaints(path) == [
            "embeddings.cls_token is newly initialised: not all its values come from the file"
        ]


def case_fused(folder: Path) -> None:
    """The library's fusion makes this weight anew, says so in a log only, and stays switched on."""
    path = qwen("Qwen2VLForConditionalGeneration", folder / "fused")
    plain = shutil.copytree(path, folder / "plain")
    weight = "patch_embed.linear_proj.weight"
    assert complaints(fused(path)) == [
        f"model.visual.{weight} is newly initialised: the file has no such tensor",
        "visual.patch_embed.proj.weight in the file is not used by the model",
    ]
    assert complaints(plain) == []


def _silence(patch: pytest.MonkeyPatch) -> None:
    nothing = {"missing_keys": (), "unexpected_keys": (), "mismatched_keys": (), "error_msgs": ()}
    report = pytest.importorskip("transformers.utils.loading_report", reason="its account")
    patch.setattr(report.LoadStateDictInfo, "to_dict", lambda _: nothing)


CASES: dict[str, Callable[[Path], None]] = {
    "missing": case_missing,
    "unexpected": case_unexpected,
    "mismatched": case_mismatched,
    "doubled": case_doubled,
    "unconverted": case_unconverted,
    "hidden": case_hidden,
    "overwritten": case_overwritten,
    "fused": case_fused,
}


NAMES = [*(name for name in CASES if name != "fused"), pytest.param("fused", marks=fusion)]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_wrong_is_said(name: str, tmp_path: Path) -> None:
    CASES[name](tmp_path)


def dropping(field: str) -> Callable[[pytest.MonkeyPatch], None]:
    def switch_off(patch: pytest.MonkeyPatch) -> None:
        known = loader._attempt
        nothing: dict[str, Any] = {field: ()}
        patch.setattr(loader, "_attempt", lambda *a: replace(known(*a), **nothing))

    return switch_off


def replacing(module: Any, name: str, value: Any) -> Callable[[pytest.MonkeyPatch], None]:
    return lambda patch: patch.setattr(module, name, value)


SABOTAGE = {
    "missing": dropping("missing"),
    "unexpected": dropping("unexpected"),
    "mismatched": dropping("mismatched"),
    "doubled": replacing(loader, "_doubles", lambda *_: ()),
    "unconverted": replacing(loader, "_conversions", lambda *_: ()),
    "hidden": replacing(through, "repeatable", nullcontext),
    "overwritten": replacing(through, "made_up", lambda *_: ()),
    "fused": replacing(loader, "_tables_restored", nullcontext),
}


@pytest.fixture
def _unfused() -> Iterator[None]:
    with loader._tables_restored():
        yield


@pytest.mark.usefixtures("_unfused")
@pytest.mark.parametrize("name", NAMES)
def test_each_check_is_needed(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    SABOTAGE[name](monkeypatch)
    with pytest.raises(AssertionError):
        CASES[name](tmp_path)


@pytest.mark.parametrize("silent", [False, True])
def test_what_the_library_calls_dispensable(
    silent: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = rewritten(saved("ViTModel", tmp_path), lambda t: t.pop(PATCH))
    if silent:
        _silence(monkeypatch)
    assert len(complaints(path)) == 1
    patterns = [r"patch_embeddings\.projection"]
    monkeypatch.setattr(transformers.ViTModel, "_keys_to_ignore_on_load_missing", patterns)
    assert complaints(path) == []
