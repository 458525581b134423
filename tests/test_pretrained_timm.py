"""Models of timm: swapped files into the original class, originals into swapped ones, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch as safetensors_torch
import torch

import convsurgeon as cs
from convsurgeon.nn import GemmConv2d, PatchLinear

timm = pytest.importorskip("timm", reason="its loading is what is tested")
pytestmark = pytest.mark.long

FIRST, LAST = LAYOUTS = ("c p1 p2", "p1 p2 c")
NAMES = {
    "vit_tiny_patch16_224": "patch_embed.proj",
    "swin_tiny_patch4_window7_224": "patch_embed.proj",
    "convnext_atto": "stem.0",
}
State = dict[str, torch.Tensor]


def build(name: str, seed: int = 0, **options: Any) -> Any:
    torch.manual_seed(seed)
    return timm.create_model(name, **options).eval()


def same(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def original(name: str, folder: Path) -> tuple[Any, Path]:
    model, path = build(name), folder / "in.safetensors"
    safetensors_torch.save_file(model.state_dict(), path)
    return model, path


@pytest.mark.parametrize("name", NAMES)
def test_every_file_goes_into_every_model_and_back(name: str, tmp_path: Path) -> None:
    model, path = original(name, tmp_path)
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        wanted = model(x)
    files = [path]
    for number, layout in enumerate(LAYOUTS):
        out = tmp_path / f"{number}.safetensors"
        cs.swap(path, out, model=f"timm:{name}", layout=layout, child_keys=layout == LAST)
        files.append(out)
    for file in files:
        plain = build(name, seed=1)
        assert cs.load(plain, file, kind="keep").replaced == ()
        assert same(plain.state_dict(), model.state_dict())
        for kind, expected in (("linear", PatchLinear), ("gemm", GemmConv2d)):
            other = build(name, seed=1)
            cs.swap_module(other, kind=kind)
            cs.load(other, file)
            assert type(other.get_submodule(NAMES[name])) is expected
            with torch.no_grad():
                assert torch.allclose(other(x), wanted, rtol=1e-3, atol=1e-4)
            back = tmp_path / "back.safetensors"
            safetensors_torch.save_file(
                {k: t.contiguous() for k, t in cs.original_state_dict(other).items()}, back
            )
            read = build(name, seed=1, checkpoint_path=str(back))  # as timm reads a checkpoint
            assert same(read.state_dict(), model.state_dict())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_filter_of_timm_takes_one_layout_for_the_other(layout: str, tmp_path: Path) -> None:
    """It reshapes a matrix as if channels came first, which nothing in a plain file contradicts."""
    name = "vit_tiny_patch16_224"
    model, path = original(name, tmp_path)
    out = tmp_path / "out.safetensors"
    cs.swap(path, out, model=f"timm:{name}", layout=layout)
    read = build(name, seed=1, pretrained=True, pretrained_cfg_overlay={"file": str(out)})
    assert same(read.state_dict(), model.state_dict()) == (layout == FIRST)
    cs.load(read, out, kind="keep")
    assert same(read.state_dict(), model.state_dict())
