"""`--evidence model`: the model that the checkpoint's own config.json describes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="models are built with it")
pytest.importorskip("transformers", reason="the configs are of its models")

from torch import nn

import convsurgeon as cs
from convsurgeon.api.choices import Choices
from convsurgeon.errors import UsageError
from convsurgeon.sources import build as building
from convsurgeon.sources.model import ModelSpeaker
from tests.cli_helpers import document, invoke
from tests.files import checkpoint

SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
PIXIO = {**SMALL, "model_type": "pixio", "architectures": ["PixioModel"]}
VIT = {**SMALL, "model_type": "vit", "architectures": ["ViTModel"], "intermediate_size": 8}
MODULE = "embeddings.patch_embeddings.projection"
SHAPES = {f"{MODULE}.weight": (16, 3, 8, 8), f"{MODULE}.bias": (16,)}


def folder_of(folder: Path, config: dict[str, Any] | None = None, files: int = 1) -> Path:
    folder.mkdir(exist_ok=True)
    for number in range(files):
        name = f"model{number}.safetensors" if number else "model.safetensors"
        checkpoint(folder / name, SHAPES)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder / "model.safetensors"


def verdicts(path: Path, **choices: Any) -> list[tuple[str, Any]]:
    plan = cs.scan(path, **choices)
    return [(str(layer.verdict), layer.evidence) for f in plan.files for layer in f.layers]


def test_the_installed_library_decides(tmp_path: Path) -> None:
    path = folder_of(tmp_path, PIXIO)
    built = ("model", "config.json, built by transformers")
    assert verdicts(path, require_evidence="model")[0][0] != "eligible"
    assert verdicts(path, require_evidence="model", evidence="model") == [("eligible", built)]


def test_the_table_of_configs_stays_beside_it(tmp_path: Path) -> None:
    plan = cs.scan(folder_of(tmp_path, VIT), evidence="model")
    (layer,) = plan.files[0].layers
    assert layer.evidence == ("model", "config.json, built by transformers")
    assert plan.files[0].notes == ()


def test_a_disagreement_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fork: nn.Module = nn.Conv2d(3, 16, 8, 4)
    for part in reversed(MODULE.split(".")):
        fork = nn.ModuleDict({part: fork})
    monkeypatch.setattr(building, "build_beside", lambda _: ModelSpeaker.of(fork, "the library"))
    ran = invoke("scan", folder_of(tmp_path, VIT), "--evidence", "model")
    assert ran.code == 3
    assert "CS060" in ran.err
    assert "the library says" in ran.err
    assert "stride 4×4" in ran.err


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (None, "no config.json to build the model from"),
        ({"hidden_size": 3}, "none of the fields"),
        ({**PIXIO, "auto_map": {"AutoModel": "m.M"}}, "never run"),
        ({**PIXIO, "architectures": ["Absent"]}, "'Absent' is no class"),
    ],
)
def test_where_the_model_cannot_be_built(
    config: dict[str, Any] | None, words: str, tmp_path: Path
) -> None:
    path = folder_of(tmp_path, config)
    ran = invoke("scan", path, "--evidence", "model")
    assert ran.code == 3
    assert ran.out == ""
    assert words in " ".join(ran.err.split())
    assert ran.err.count("CS062") == 1


def test_one_folder_of_several_fails_alone(tmp_path: Path) -> None:
    good, bad = folder_of(tmp_path / "a", PIXIO), folder_of(tmp_path / "b")
    code, found = document("scan", good, bad, "--evidence", "model", "--json")
    assert code == 4
    assert [file["layers"][0]["verdict"] for file in found["files"]] == ["eligible"]
    assert "CS062" in json.dumps(found["errors"])


def test_a_config_is_built_once_for_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def build_beside(path: Path) -> ModelSpeaker:
        asked.append(path)
        return known(path)

    known = building.build_beside
    monkeypatch.setattr(building, "build_beside", build_beside)
    folder_of(tmp_path / "a", PIXIO, files=3)
    folder_of(tmp_path / "b", PIXIO, files=2)
    files = sorted(tmp_path.glob("*/*.safetensors"))
    assert len(cs.scan(files, evidence="model").files) == 5
    assert asked == [tmp_path / "a" / "config.json", tmp_path / "b" / "config.json"]


def test_swap_and_verify_take_it(tmp_path: Path) -> None:
    path, out = folder_of(tmp_path, PIXIO), tmp_path / "out.safetensors"
    ran = invoke("swap", path, "-o", out, "--evidence", "model", "--verify", "bits")
    assert ran.code == 0
    ran = invoke("verify", path, out, "--evidence", "model", "--bits")
    assert ran.code == 0


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"evidence": "config"}, "'config' is not 'model'"),
        ({"evidence": "model", "model": "timm:resnet18"}, "leave one of them away"),
    ],
)
def test_wrong_usage(choices: Choices, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        cs.scan(folder_of(tmp_path, PIXIO), **choices)
    assert (caught.value.code, caught.value.where) == ("CS090", "--evidence")
