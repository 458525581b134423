"""`load`: what files it reads, and in how much memory."""

from __future__ import annotations

import json
import math
import tracemalloc
from pathlib import Path

import safetensors.torch as safetensors_torch
import torch
from torch import nn

import convsurgeon as cs
from convsurgeon.nn import GemmConv2d
from convsurgeon.store import CHUNK
from tests.load_cases import Model, close, image, save, surgery


def test_shards_and_folders(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    state = {k: v.clone() for k, v in Model().state_dict().items() if "again" not in k}
    names = sorted(state)
    places: dict[str, str] = {}
    for i in range(3):
        part = {name: state[name] for name in names[i::3]}
        file = f"model-0000{i + 1}-of-00003.safetensors"
        safetensors_torch.save_file(part, folder / file)
        places |= dict.fromkeys(part, file)
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    cs.swap(folder, tmp_path / "out", geometry=["stems.1=s2x3"])
    for path in (tmp_path / "out", tmp_path / "out" / "model.safetensors.index.json"):
        model = Model(seed=1).eval()
        report = cs.load(model, path, kind="gemm")
        assert report.tensors == len(state)
        assert isinstance(model.again, GemmConv2d)
        assert close(Model().eval(), model, image())


def test_scalars_empty_and_half_tensors(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(value))
            self.none = nn.Parameter(torch.empty(0, 3))
            self.short = nn.Parameter(torch.full((2,), value, dtype=torch.bfloat16))
            self.register_buffer("flag", torch.tensor(value > 0))

    path = save(Odd(math.pi), tmp_path / "in.safetensors")
    model = Odd(-1.0)
    assert cs.load(model, path).tensors == 4
    assert all(torch.equal(t, Odd(math.pi).state_dict()[k]) for k, t in model.state_dict().items())


def test_a_pytorch_file_in_its_original_form(tmp_path: Path) -> None:
    _, out = surgery(tmp_path)
    model = Model(seed=1)
    cs.load(model, out)
    torch.save(Model(seed=2).state_dict(), tmp_path / "model.pt")
    cs.load(model, tmp_path / "model.pt")
    assert torch.equal(model.again.weight, Model(seed=2).again.weight)


def test_memory_is_bounded_by_the_largest_tensor(tmp_path: Path) -> None:
    def build() -> nn.Module:
        return nn.Sequential(*[nn.Linear(1024, 1024, bias=False) for _ in range(8)])

    path, model = save(build(), tmp_path / "in.safetensors"), build()
    cs.load(model, path)
    tracemalloc.start()
    cs.load(model, path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1024 * 1024 * 4 + 3 * CHUNK
