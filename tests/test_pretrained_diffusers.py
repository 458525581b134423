"""Models of diffusers: swapped files into the original class, originals into swapped ones, back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch as safetensors_torch
import torch
from torch import nn

import convsurgeon as cs
from convsurgeon.errors import MismatchError, UsageError
from tests.matrix_models import construct, inputs, outputs

diffusers = pytest.importorskip("diffusers", reason="its loading is what is tested")
PROJ = {"SD3Transformer2DModel": "pos_embed.proj", "WanTransformer3DModel": "patch_embedding"}
FILES: list[dict[str, Any] | None] = [None, {}, {"layout": "p1 p2 c"}, {"child_keys": True}]
FILE = "diffusion_pytorch_model.safetensors"


@pytest.fixture(params=PROJ)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def folders(name: str, tmp_path: Path) -> list[Path]:
    """The original, and swapped in every form."""
    construct(name).save_pretrained(tmp_path / "in")
    found = [tmp_path / "in"]
    for number, choices in enumerate(FILES[1:]):
        cs.swap(tmp_path / "in", tmp_path / str(number), verify="bits", **(choices or {}))
        found.append(tmp_path / str(number))
    return found


def same(model: nn.Module, original: nn.Module) -> bool:
    found, wanted = cs.original_state_dict(model), original.state_dict()
    return list(found) == list(wanted) and all(torch.equal(found[k], wanted[k]) for k in wanted)


def close(name: str, model: Any, original: Any) -> bool:
    pairs = zip(outputs(model, inputs(name)), outputs(original, inputs(name)), strict=True)
    return all(torch.allclose(one, other, rtol=1e-4, atol=1e-5) for one, other in pairs)


@pytest.mark.parametrize(("kind", "expected"), [("linear", "PatchLinear"), ("gemm", "GemmConv"), ("keep", "Conv")])  # fmt: skip
def test_every_file_goes_into_every_model_and_the_original_is_saved(
    kind: str, expected: str, name: str, folders: list[Path], tmp_path: Path
) -> None:
    original, model_class = construct(name), getattr(diffusers, name)
    for number, folder in enumerate(folders):
        model = cs.from_pretrained(model_class, folder, kind=kind)
        assert type(model) is model_class
        assert not model.training
        assert type(model.get_submodule(PROJ[name])).__name__.startswith(expected)
        assert same(model, original)
        assert close(name, model, original)
        out = tmp_path / f"out {number}"
        cs.save_pretrained(model, out)
        assert same(model_class.from_pretrained(out), original)
        configs = [json.loads((place / "config.json").read_text()) for place in (out, folders[0])]
        configs[0].pop("_name_or_path", None)
        assert configs[0] == configs[1]


def test_into_a_model_that_is_there(name: str, folders: list[Path]) -> None:
    original = construct(name)
    for folder in folders:
        for layout in ("c p1 p2", "p1 p2 c"):
            model = construct(name)
            nn.init.normal_(model.get_submodule(PROJ[name]).weight)
            cs.swap_module(model, layout=layout)
            cs.load(model, folder)
            assert same(model, original)


def test_a_swapped_checkpoint_with_its_recipe(name: str, tmp_path: Path) -> None:
    model = construct(name)
    model.save_pretrained(tmp_path / "in")
    cs.swap_module(model, layout="p1 p2 c")
    for child_keys in (False, True):
        out = tmp_path / f"out {child_keys}"
        cs.save_pretrained(model, out, form="swapped", child_keys=child_keys)
        cs.verify(tmp_path / "in" / FILE, out / FILE).require()
        key = f"{PROJ[name]}.linear.weight" if child_keys else f"{PROJ[name]}.weight"
        assert safetensors_torch.load_file(out / FILE)[key].dim() == 2
        assert same(cs.from_pretrained(getattr(diffusers, name), out, kind="keep"), construct(name))


def test_what_the_library_does_alone(name: str, folders: list[Path], tmp_path: Path) -> None:
    """Why all this: it refuses another shape, and of another name it knows nothing."""
    model_class = getattr(diffusers, name)
    with pytest.raises((ValueError, RuntimeError)):
        model_class.from_pretrained(folders[1])
    model = cs.from_pretrained(model_class, folders[0])
    model.save_pretrained(tmp_path / "own")
    own = safetensors_torch.load_file(tmp_path / "own" / FILE)
    assert f"{PROJ[name]}.linear.weight" in own
    assert f"{PROJ[name]}.weight" not in own


def test_dtypes_and_subfolders(name: str, folders: list[Path], tmp_path: Path) -> None:
    model_class = getattr(diffusers, name)
    model = cs.from_pretrained(model_class, folders[1].parent, subfolder=folders[1].name)
    assert model.dtype is torch.float32
    half = cs.from_pretrained(model_class, folders[1], torch_dtype=torch.bfloat16)
    assert half.dtype is torch.bfloat16
    cs.save_pretrained(half, tmp_path / "half", form="swapped")
    again = cs.from_pretrained(model_class, tmp_path / "half", kind="keep")
    assert again.dtype is torch.bfloat16
    assert same(half, again)
    with pytest.raises(UsageError, match="variant"):
        cs.from_pretrained(model_class, folders[1], variant="fp16")


def test_another_model_than_the_recipe_speaks_of(name: str, folders: list[Path]) -> None:
    config = (folders[1] / "config.json").read_text()
    other = next(path for path in PROJ if path != name)
    (folders[1] / "config.json").write_text(config.replace(name, other))
    with pytest.raises((MismatchError, TypeError, ValueError, AttributeError)):
        cs.from_pretrained(getattr(diffusers, other), folders[1])
