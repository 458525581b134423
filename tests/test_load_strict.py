"""What `load` refuses, in one line each, and with the model as it was."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch as safetensors_torch
import torch
from safetensors import safe_open
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import convsurgeon as cs
from convsurgeon.errors import MismatchError, RecipeError, UsageError

GEOMETRY: dict[str, Any] = {"geometry": ["0=s2"]}


def stem(**options: Any) -> Any:
    torch.manual_seed(1)
    conv = nn.Conv2d(
        **({"in_channels": 3, "out_channels": 8, "kernel_size": 2, "stride": 2} | options)
    )
    return nn.Sequential(conv, nn.Flatten(), nn.Linear(32, 5))


def save(model: nn.Module, path: Path) -> Path:
    safetensors_torch.save_file(model.state_dict(), path)
    return path


@pytest.fixture
def swapped(tmp_path: Path) -> Path:
    out = tmp_path / "out.safetensors"
    cs.swap(save(stem(), tmp_path / "in.safetensors"), out, **GEOMETRY)
    return out


def refuse(model: nn.Module, path: Path, *parts: str, **options: Any) -> None:
    """Check that loading is refused with these words, and that nothing has changed."""
    modules = dict(model.named_modules())
    tensors = {name: t.clone() for name, t in model.state_dict().items() if not t.is_meta}
    with pytest.raises(MismatchError) as caught:
        cs.load(model, path, **options)
    text = str(caught.value)
    assert "CS084" in text
    assert "\n" not in text
    assert str(path) in text
    assert [part for part in parts if part not in text] == [], text
    assert dict(model.named_modules()) == modules
    now = model.state_dict()
    assert all(torch.equal(tensor, now[name]) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"stride": 1}, ("stride 1×1", "stride 2×2")),
        ({"padding": 1}, ("padding 1×1", "padding 0×0")),
        ({"padding": "same", "stride": 1}, ("padding 'same'",)),
        ({"dilation": 2}, ("dilation 2×2", "dilation 1×1")),
        ({"kernel_size": 4, "stride": 4}, ("[8, 3, 4, 4]", "[8, 3, 2, 2]")),
        ({"in_channels": 6, "groups": 2}, ("groups 2", "groups 1")),
        ({"out_channels": 6}, ("[6, 3, 2, 2]", "[8, 3, 2, 2]")),
    ],
)
def test_another_geometry(swapped: Path, options: dict[str, Any], parts: tuple[str, ...]) -> None:
    refuse(stem(**options), swapped, "0: ", *parts)


class Gated(nn.Conv2d):
    """A conv with a forward of its own."""


def hooked() -> Any:
    model = stem()
    model[0].register_load_state_dict_pre_hook(lambda *_: None)
    return model


def normed() -> Any:
    model = stem()
    model[0] = weight_norm(model[0])
    return model


def with_first(first: nn.Module) -> Callable[[], nn.Sequential]:
    return lambda: nn.Sequential(first, *list(stem())[1:])


@pytest.mark.parametrize(
    ("build", "parts"),
    [
        (with_first(Gated(3, 8, 2, 2)), ("Gated",)),
        (
            with_first(nn.ConvTranspose2d(8, 3, 2, 2)),
            ("speaks of a convolution", "ConvTranspose2d"),
        ),
        (with_first(nn.LayerNorm((8, 12))), ("speaks of a convolution", "LayerNorm")),
        (with_first(nn.Linear(10, 8)), ("[8, 10]", "[8, 12]")),
        (hooked, ("0: cannot be replaced", "_load_state_dict_pre_hooks", "CS024", "keep")),
        (normed, ("0.parametrizations.weight.original0", "missing")),
    ],
)
def test_another_layer(
    swapped: Path, build: Callable[[], nn.Sequential], parts: tuple[str, ...]
) -> None:
    refuse(build(), swapped, *parts)


def test_missing_and_unexpected_keys_are_counted_and_five_are_named(swapped: Path) -> None:
    head = nn.Sequential(*[nn.LayerNorm(4) for _ in range(4)])
    model = nn.Sequential(stem()[0], nn.Flatten(), head)
    parts = (
        "8 missing: 2.0.bias, 2.0.weight, 2.1.bias, 2.1.weight, 2.2.bias, …",
        "2 unexpected: 2.bias, 2.weight",
    )
    refuse(model, swapped, *parts, "key_map")


def test_two_keys_for_one_name(swapped: Path) -> None:
    keys = {"2.bias": "0.bias"}
    refuse(stem(), swapped, "1 twice: 0.bias", "1 missing: 2.bias", key_map=keys)


def test_another_shape(swapped: Path) -> None:
    model = nn.Sequential(stem()[0], nn.Flatten(), nn.Linear(30, 5))
    refuse(model, swapped, "2.weight: the file has [5, 32], the model [5, 30]")


def test_another_dtype_needs_cast(swapped: Path) -> None:
    model = stem().to(torch.bfloat16)
    refuse(model, swapped, "torch.float32", "torch.bfloat16", "cast=True")
    cs.load(model, swapped, cast=True)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert torch.equal(model[2].weight, stem()[2].weight.to(torch.bfloat16))


def test_a_cast_is_between_floats_only(tmp_path: Path) -> None:
    tensors = {k: v.to(torch.int64) for k, v in stem().state_dict().items()}
    path = tmp_path / "ints.safetensors"
    safetensors_torch.save_file(tensors, path)
    refuse(stem(), path, "torch.int64", cast=True)


def test_a_flattened_matrix_without_a_recipe(tmp_path: Path, swapped: Path) -> None:
    tensors = safetensors_torch.load_file(swapped)
    path = tmp_path / "bare.safetensors"
    safetensors_torch.save_file(tensors, path)
    refuse(stem(), path, "[8, 12]", "[8, 3, 2, 2]")
    for kind in ("linear", "gemm"):
        model = stem()
        cs.load(model, swapped, kind=kind)
        refuse(model, path, "in which order")


def test_tied_weights_that_differ(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    path = save(model, tmp_path / "two.safetensors")
    tied = deepcopy(model)
    tied[1].weight = tied[0].weight
    refuse(tied, path, "1.weight", "tied to 0.weight")


def test_a_tied_conv(tmp_path: Path) -> None:
    def build() -> nn.Sequential:
        model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1, stride=2))
        model[1].weight = model[0].weight
        return model

    state = {k: v.clone() for k, v in build().state_dict().items()}
    path, out = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    safetensors_torch.save_file(state, path)
    cs.swap(path, out, geometry=["0=s1"], layers=["0"])
    refuse(build(), out, "1: ", "stride 2×2", "stride 1×1")


def test_a_parent_that_reads_the_weight(tmp_path: Path) -> None:
    def build() -> nn.Module:
        return nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)

    path = save(build(), tmp_path / "in.safetensors")
    parents = {"linear1": "TransformerEncoderLayer", "self_attn.out_proj": "MultiheadAttention"}
    for layer, parent in parents.items():
        out = tmp_path / f"{layer}.safetensors"
        cs.swap(path, out, to="conv", method="1x1", layers=[layer])
        refuse(build(), out, layer, f"the forward of {parent} reads its weight", "CS021")


def test_the_model_itself_cannot_be_replaced(tmp_path: Path) -> None:
    conv = nn.Conv2d(3, 8, 2, 2)
    path, out = save(conv, tmp_path / "in.safetensors"), tmp_path / "out.safetensors"
    script = tmp_path / "model.py"
    script.write_text("from torch import nn\ndef build():\n    return nn.Conv2d(3, 8, 2, 2)\n")
    cs.swap(path, out, model=f"{script}:build")
    refuse(conv, out, "wrap it in nn.Sequential")


def test_buffers_without_memory(tmp_path: Path) -> None:
    class WithBuffer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(2, 2)
            self.register_buffer("steps", torch.arange(3), persistent=False)

    path = save(WithBuffer(), tmp_path / "in.safetensors")
    with torch.device("meta"):
        model = WithBuffer()
    refuse(model, path, "steps", "meta")


def test_a_lazy_layer(swapped: Path) -> None:
    model = nn.Sequential(nn.LazyLinear(1))
    with pytest.raises(MismatchError, match="is a UninitializedParameter"):
        cs.load(model, swapped)


def test_a_weight_that_overlaps_itself(swapped: Path) -> None:
    """Torch would fail at it when other tensors are in place already."""
    model = stem()
    model[0].weight = nn.Parameter(torch.ones(1, 3, 2, 2).expand(8, 3, 2, 2))
    refuse(model, swapped, "several elements of 0.weight are one in memory", "clone()")


@pytest.mark.parametrize("key_map", [3, [("a", "b")], lambda _: None, {"0.weight": 3}])
def test_names_that_are_none(key_map: Any, swapped: Path) -> None:
    with pytest.raises(UsageError, match=r"key_map: .*CS090"):
        cs.load(stem(), swapped, key_map=key_map)


def test_wrong_usage(swapped: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'flat' is none of 'linear', 'gemm', 'keep'"):
        cs.load(stem(), swapped, kind="flat")
    with pytest.raises(UsageError, match="holds 2 checkpoints"):
        cs.load(stem(), tmp_path)


def test_a_recipe_that_no_longer_fits(swapped: Path) -> None:
    with safe_open(swapped, "pt") as file:
        metadata = file.metadata()
    tensors = stem().state_dict()
    safetensors_torch.save_file(tensors, swapped, metadata)
    with pytest.raises(RecipeError, match="CS082"):
        cs.load(stem(), swapped)
