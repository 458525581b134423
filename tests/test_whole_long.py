"""Whole models of timm, torchvision and diffusers, built, swapped, loaded and run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch as safetensors_torch
import torch

import convsurgeon as cs
from convsurgeon.api.whole import Trial, try_models
from convsurgeon.errors import UsageError
from convsurgeon.proof import ModelVerdict
from convsurgeon.proof.drift import ALLOWED
from convsurgeon.sources.live import build_live
from tests.whole_cases import changed

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore")]


def saved(spec: str, folder: Path) -> Path:
    """Save the model of a SPEC with weights large enough for its output to depend on its input."""
    model = build_live(spec, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    path = folder / "model.safetensors"
    safetensors_torch.save_file(
        {k: t.contiguous().clone() for k, t in model.state_dict().items()}, path
    )
    return path


def tried(spec: str, folder: Path, *inputs: str, **options: Any) -> tuple[ModelVerdict, Path]:
    source, out = saved(spec, folder), folder / "out.safetensors"
    cs.swap(source, out, model=spec, only="patchify", layout="p1 p2 c")
    return try_models(source, out, Trial(spec, None, inputs, **options)), out


def shifted(weight: torch.Tensor) -> torch.Tensor:
    return weight.roll(1, dims=1)


DRIFT = Path(__file__).parent.parent / "benchmarks" / "drift.py"


def test_the_benchmark_prints_its_table() -> None:
    options = ["--seeds", "1", "--only", "lenet", "--dtype", "float64"]
    command = [sys.executable, str(DRIFT), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    machine, head, _, row, everything = done.stdout.splitlines()
    assert "CPUs" in machine
    figures = dict(
        zip(*([c.strip() for c in line.split("|")] for line in (head, row)), strict=True)
    )
    assert float(figures["true: largest"]) < ALLOWED["float64"] < float(figures["layout: least"])
    assert everything.startswith("| **all** | float64 |")


TIMM = {
    "vit_tiny_patch16_224": "patch_embed.proj",
    "convnext_atto": "stem.0",
    "swin_tiny_patch4_window7_224": "patch_embed.proj",
}


@pytest.mark.parametrize(("name", "dtype"), [*zip(TIMM, ("float64", "float32", None), strict=True)])
def test_timm(name: str, dtype: str | None, tmp_path: Path) -> None:
    pytest.importorskip("timm", reason="the names are its own")
    spec = f"timm:{name}"
    found, out = tried(spec, tmp_path, "dummy", dtype=dtype)
    assert [one.shape for one in found.inputs] == [(1, 3, 224, 224)]
    assert found.equivalent
    assert found.outputs[0].yardstick > 0
    wrong = changed(out, f"{TIMM[name]}.weight", shifted)
    trial = Trial(spec, None, ("dummy",), dtype=dtype)
    refuted = try_models(tmp_path / "model.safetensors", wrong, trial)
    assert not refuted.equivalent
    assert refuted.begins == TIMM[name]


def test_torchvision(tmp_path: Path) -> None:
    pytest.importorskip("torchvision", reason="the names are its own")
    spec = "torchvision:vit_b_32"
    found, out = tried(spec, tmp_path, "1x3x224x224")
    assert found.equivalent
    wrong = changed(out, "conv_proj.weight", shifted)
    refuted = try_models(tmp_path / "model.safetensors", wrong, Trial(spec, None, ("1x3x224x224",)))
    assert refuted.begins == "conv_proj"
    with pytest.raises(UsageError, match="has no dummy inputs"):
        try_models(tmp_path / "model.safetensors", out, Trial(spec, None, ("dummy",)))


WAN = """{"_class_name": "WanTransformer3DModel", "num_layers": 1, "num_attention_heads": 2,
"attention_head_dim": 12, "in_channels": 4, "out_channels": 4, "text_dim": 8, "freq_dim": 16,
"ffn_dim": 16, "patch_size": [1, 2, 2], "rope_max_seq_len": 32}"""
INPUTS = ("hidden_states=1x4x2x8x8", "timestep=1:int64", "encoder_hidden_states=1x6x8")


def test_diffusers(tmp_path: Path) -> None:
    pytest.importorskip("diffusers", reason="the class is its own")
    (tmp_path / "config.json").write_text(WAN)
    spec = f"diffusers:{tmp_path}"
    found, out = tried(spec, tmp_path, *INPUTS)
    assert found.equivalent
    assert [(one.name, one.shape) for one in found.outputs] == [("sample", (1, 4, 2, 8, 8))]
    wrong = changed(out, "patch_embedding.weight", shifted)
    refuted = try_models(tmp_path / "model.safetensors", wrong, Trial(spec, None, INPUTS))
    assert refuted.begins == "patch_embedding"
    with pytest.raises(UsageError, match=r"has no dummy inputs .*--input-file"):
        try_models(tmp_path / "model.safetensors", out, Trial(spec, None, ("dummy",)))
