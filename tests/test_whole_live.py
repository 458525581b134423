"""`build_live`: the model of a SPEC with memory, behind the same guards as without."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="models are built with it")

from convsurgeon.errors import ModelError, UsageError  # noqa: E402
from convsurgeon.sources.build import build  # noqa: E402
from convsurgeon.sources.live import build_live  # noqa: E402
from tests.test_samples import FOLDER  # noqa: E402

SCRIPT = """
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.proj = nn.Conv2d(3, 8, 2, 2)
        self.register_buffer("steps", torch.arange(5.0).sqrt(), persistent=False)
        self.register_buffer("drawn", torch.randn(5), persistent=False)

def build():
    print("noise")
    return Model()

def none():
    return None

def fail():
    raise ValueError("first line\\nsecond line")

def fetch():
    import socket
    socket.create_connection(("127.0.0.1", 9))
"""


@pytest.fixture
def script(tmp_path: Path) -> str:
    (tmp_path / "m.py").write_text(SCRIPT)
    return f"{tmp_path}/m.py"


def test_buffers_that_no_file_holds_have_their_values(
    script: str, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, again, other = (build_live(f"{script}:build", seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.get_buffer("steps").tolist() == torch.arange(5.0).sqrt().tolist()
    assert not any(t.is_meta for t in (*first.parameters(), *first.buffers()))
    assert all(parameter.requires_grad for parameter in first.parameters())
    for one, two in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, two)
    assert torch.equal(first.get_buffer("drawn"), again.get_buffer("drawn"))
    assert not torch.equal(first.get_buffer("drawn"), other.get_buffer("drawn"))
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("name", ["vit_digits", "jit_digits", "lenet_digits", "clip3d_digits"])
def test_it_is_the_model_that_evidence_comes_from(name: str) -> None:
    spec = f"{FOLDER / name / 'model.py'}:build"
    assert set(build_live(spec).state_dict()) == build(spec).names


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none", "returned a NoneType, not an nn.Module"),
        ("fail", "cannot be built: ValueError: first line second line"),
        ("biuld", "has no function biuld"),
    ],
)
def test_code_that_builds_no_model(script: str, name: str, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        build_live(f"{script}:{name}")
    assert caught.value.code == "CS062"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", ["timm:", "transformers:", "", ":build", "model.py", "a:b:c-d"])
def test_malformed_specs(spec: str) -> None:
    with pytest.raises(UsageError, match="transformers:PATH"):
        build_live(spec)


def test_an_exported_program_has_no_layers_to_load_into(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"exported program .*--model file\.py:function") as caught:
        build_live(str(tmp_path / "m.pt2"))
    assert caught.value.code == "CS062"


VIT: dict[str, Any] = {
    "model_type": "vit",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "image_size": 32,
    "patch_size": 8,
    "dtype": "bfloat16",
}


def written(folder: Path, **fields: Any) -> str:
    import json

    (folder / "config.json").write_text(json.dumps({**VIT, **fields}))
    return f"transformers:{folder}"


def test_a_config_of_transformers(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the config is of one of its models")
    spec = written(tmp_path, architectures=["CLIPVisionModel"], model_type="clip_vision_model")
    model = build_live(spec)
    positions = next(b for n, b in model.named_buffers() if n.endswith("position_ids"))
    assert positions.tolist() == [list(range(17))]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"auto_map": {"AutoModel": "modeling.Model"}}, "auto_map .* never run"),
        ({"architectures": ["ViTModle"]}, "is no class"),
        ({"patch_size": "eight"}, "cannot be built"),
    ],
)
def test_configs_that_are_refused(fields: dict[str, Any], words: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="the config is of one of its models")
    with pytest.raises(ModelError, match=words) as caught:
        build_live(written(tmp_path, **fields))
    assert caught.value.code == "CS062"


def test_nothing_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers", reason="its constructor is replaced")

    def fetch(self: object, config: object) -> None:
        socket.create_connection(("example.org", 80))

    monkeypatch.setattr(transformers.ViTModel, "__init__", fetch)
    with pytest.raises(ModelError, match="nothing is downloaded"):
        build_live(written(tmp_path, architectures=["ViTModel"]))
    for spec in ("timm:hf-hub:timm/resnet18.a1_in1k", "transformers:google/vit-base-patch16-224"):
        with pytest.raises(ModelError, match="nothing is downloaded"):
            build_live(spec)
