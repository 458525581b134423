"""Files that hold a layer's tensors whole, into a model that has it in parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import convsurgeon as cs
from convsurgeon.errors import MismatchError
from convsurgeon.nn import SplitConv
from tests.live_cases import TO_CONV, close, standing

ROWS = torch.randn(2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def plain(bias: bool = True) -> Any:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 9, bias)).double()


def in_parts(bias: bool = True, seed: int = 7, **options: Any) -> Any:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 9, bias)).double()
    cs.swap_module(model, **{**TO_CONV, "max_channels": 4, **options})
    assert isinstance(model[1], SplitConv)
    return model


def linear_file(folder: Path, bias: bool = True) -> Path:
    save_file(plain(bias).state_dict(), folder / "linear.safetensors")
    return folder / "linear.safetensors"


def conv_file(folder: Path, bias: bool = True) -> Path:
    out = folder / "conv.safetensors"
    cs.swap(linear_file(folder, bias), out, **TO_CONV, layers=["*"])
    return out


@pytest.mark.parametrize("make", [linear_file, conv_file])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("options", [{}, {"channels_first": "memory"}])
def test_whole_tensors_are_cut_as_they_are_loaded(
    make: Callable[..., Path], bias: bool, options: dict[str, Any], tmp_path: Path
) -> None:
    model = in_parts(bias, **options)
    parameters = dict(model.named_parameters())
    report = cs.load(model, make(tmp_path, bias))
    assert report.tensors == (4 if bias else 3)
    assert {n: id(p) for n, p in model.named_parameters()} == {
        n: id(p) for n, p in parameters.items()
    }
    assert torch.equal(model[1].weight.flatten(1), plain(bias)[1].weight)
    assert close(model(ROWS), plain(bias)(ROWS))


def test_what_such_a_model_saves_it_loads(tmp_path: Path) -> None:
    saved, model = in_parts(seed=3), in_parts()
    save_file(saved.state_dict(), tmp_path / "parts.safetensors")
    cs.load(model, tmp_path / "parts.safetensors")
    assert torch.equal(model(ROWS), saved(ROWS))


def test_parts_on_the_meta_device_get_memory(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = in_parts()
    cs.load(model, conv_file(tmp_path))
    assert not [name for name, tensor in model.state_dict().items() if tensor.is_meta]
    assert close(model(ROWS), plain()(ROWS))


def changed(file: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    state = load_file(file)
    change(state)
    save_file(state, file)
    return file


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda state: state.update({"1.weight": state["1.weight"][:8].clone()}),
            r"the file has \[8, 4\], the model \[9, 4, 1, 1\]",
        ),
        (lambda state: state.pop("1.weight"), r"1 missing: 1\.weight"),
        (
            lambda state: state.update({"1.parts.0.weight": state["0.weight"].clone()}),
            r"1 twice: 1\.weight",
        ),
        (
            lambda state: state.update({"1.bias": state["1.bias"].float()}),
            "the file has torch.float32, the model torch.float64",
        ),
    ],
)
def test_what_does_not_fit(
    change: Callable[[dict[str, Tensor]], object], words: str, tmp_path: Path
) -> None:
    model = in_parts()
    before, values = standing(model), model(ROWS)
    with pytest.raises(MismatchError, match=words):
        cs.load(model, changed(linear_file(tmp_path), change))
    assert standing(model) == before
    assert torch.equal(model(ROWS), values)


def test_two_heads_in_the_same_parts_take_the_same_tensors(tmp_path: Path) -> None:
    def build() -> Any:
        model = plain()
        model.append(nn.Linear(4, 9).double())
        model[2].weight = model[1].weight
        return model

    state = {name: tensor.clone() for name, tensor in build().state_dict().items()}
    save_file(state, tmp_path / "heads.safetensors")
    model = build()
    cs.swap_module(model, **TO_CONV, max_channels=4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    cs.load(model, tmp_path / "heads.safetensors")
    assert torch.equal(model[2].weight.flatten(1), state["1.weight"])
    state["2.weight"][8, 3] += 1
    save_file(state, tmp_path / "heads.safetensors")
    with pytest.raises(MismatchError, match="tied to 1"):
        cs.load(model, tmp_path / "heads.safetensors")
