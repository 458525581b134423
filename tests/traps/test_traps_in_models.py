"""Traps that no file shows: the same keys and shapes, and only the model tells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="a model as evidence needs torch")

from safetensors.torch import save_file
from torch import nn

import convsurgeon as cs
from convsurgeon.errors import ContradictionError
from convsurgeon.plan import LayerPlan
from tests.traps import zoo
from tests.traps.cases import Answer

YES: Answer = ("eligible", None, "stride")

# module -> the right answer
GEOMETRIES: dict[str, Answer] = {
    "plain": YES,
    "valid": YES,  # says in words what padding 0 says
    "overlapping": ("refused", "CS001", "windows overlap; padding 3×3"),
    "lower_stride": ("refused", "CS001", "stride 2×2 is smaller than kernel 4×4"),
    "padded": ("refused", "CS003", "padding 2×2"),
    "same": ("refused", "CS013", "padding 'same'"),
    "same_1x1": YES,  # the same size without any padding
    "reflecting": ("refused", "CS013", "padding mode 'reflect'"),
    "reflecting_nothing": YES,  # a mode of a padding that is not there
    "dilated": ("refused", "CS004", "dilation 2×2"),
    "dilated_1x1": YES,  # one position has no distance to another
    "grouped": ("refused", "CS005", "4 groups"),
    "depthwise": ("refused", "CS005", "8 groups"),
    "depthwise_1x1": ("refused", "CS005", "8 groups"),
    "shortcut": ("refused", "CS002", "inputs are skipped"),
    "up": ("refused", "CS006", "transposed"),  # square: a conv's shape, in and out exchanged
    "widening_up": ("refused", "CS006", "transposed"),
    "lpips": YES,
}
SUBCLASSES: dict[str, Answer] = {
    "standardised": ("refused", "CS007", "a StandardisedConv"),
    "same": ("refused", "CS007", "a SamePaddingConv"),
    "normed": ("refused", "CS008", "computed from other tensors"),
    "spectral": ("refused", "CS008", "computed from other tensors"),
    "old_spectral": ("refused", "CS008", "computed from other tensors"),
    "experts": ("refused", "CS007", "class Experts, not of a torch convolution"),
    "grid": ("refused", "CS007", "class Grid, not of a torch convolution"),
}
MATRICES: dict[str, Answer] = {
    "linear": ("eligible", None, "kernel of one position"),
    "c_attn": ("refused", "CS015", "class Conv1D, not of an nn.Linear"),
    "c_proj": ("refused", "CS015", "class Conv1D, not of an nn.Linear"),
    "relative_attention_bias": ("refused", "CS015", "class Embedding"),
    "words": ("refused", "CS015", "class Embedding"),
}
MODELS: dict[str, tuple[Callable[[], nn.Module], dict[str, Answer], dict[str, Any]]] = {
    "geometries": (zoo.geometries, GEOMETRIES, {}),
    "subclasses": (zoo.subclasses, SUBCLASSES, {}),
    "matrices": (zoo.matrices, MATRICES, {"to": "conv", "method": "1x1"}),
}


def saved(folder: Path, build: Callable[[], nn.Module]) -> Path:
    """The model's file; of a shared tensor it has the first name only."""
    path = folder / "model.safetensors"
    seen: set[int] = set()
    state = {}
    for name, tensor in build().state_dict().items():
        if tensor.data_ptr() not in seen:
            state[name] = tensor.clone()
        seen.add(tensor.data_ptr())
    save_file(state, path)
    return path


def first_module(key: str) -> str:
    return key.partition(".")[0]


def layers(path: Path, build: Callable[[], nn.Module], **choices: Any) -> tuple[LayerPlan, ...]:
    spec = f"{zoo.__name__}:{build.__name__}"
    return cs.scan(path, model=spec, **choices).files[0].layers


@pytest.mark.parametrize(("build", "answers", "choices"), MODELS.values(), ids=MODELS)
def test_what_the_model_says(
    build: Callable[[], nn.Module], answers: dict[str, Answer], choices: Any, tmp_path: Path
) -> None:
    found = layers(saved(tmp_path, build), build, **choices)
    assert {first_module(layer.key) for layer in found} == set(answers)
    for layer in found:
        verdict, code, words = answers[first_module(layer.key)]
        assert (layer.verdict.value, layer.code) == (verdict, code), layer.module
        assert words in layer.reason


@pytest.mark.parametrize(("build", "answers", "choices"), MODELS.values(), ids=MODELS)
def test_without_the_model_nothing_is_eligible(
    build: Callable[[], nn.Module], answers: dict[str, Answer], choices: Any, tmp_path: Path
) -> None:
    found = cs.scan(saved(tmp_path, build), **choices).files[0].layers
    assert {layer.verdict.value for layer in found} <= {"refused", "undecided"}


@pytest.mark.parametrize("module", [m for m, (verdict, *_) in SUBCLASSES.items() if m != "experts"])
def test_the_user_cannot_talk_an_obstacle_away(module: str, tmp_path: Path) -> None:
    path = saved(tmp_path, zoo.subclasses)
    found = layers(path, zoo.subclasses, geometry=[f"{module}*=s4"])
    codes = {layer.code for layer in found if first_module(layer.key) == module}
    assert codes == {SUBCLASSES[module][1]}


@pytest.mark.parametrize("module", ["lower_stride", "padded", "grouped", "up", "widening_up"])
def test_a_user_who_says_otherwise_than_the_model_is_an_error(module: str, tmp_path: Path) -> None:
    path = saved(tmp_path, zoo.geometries)
    kernel = "2" if "up" in module else "4"
    with pytest.raises(ContradictionError, match="evidence disagrees") as caught:
        layers(path, zoo.geometries, geometry=[f"{module}=k{kernel},s{kernel}"])
    assert caught.value.code == "CS060"


def test_one_tensor_at_two_strides(tmp_path: Path) -> None:
    (layer,) = layers(saved(tmp_path, zoo.two_strides), zoo.two_strides)
    assert (layer.key, layer.verdict.value, layer.code) == ("a.weight", "refused", "CS016")
    assert "b.weight" in layer.reason
    (claimed,) = layers(tmp_path / "model.safetensors", zoo.two_strides, geometry=["a=s4"])
    assert claimed.code == "CS016"


def test_one_tensor_of_two_layers_that_are_alike(tmp_path: Path) -> None:
    (layer,) = layers(saved(tmp_path, zoo.twins), zoo.twins)
    assert (layer.key, layer.verdict.value) == ("a.weight", "eligible")


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "model."])
def test_a_wrapper_changes_no_answer(prefix: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    state = zoo.geometries().state_dict()
    save_file({prefix + name: tensor for name, tensor in state.items()}, path)
    found = {layer.module.removeprefix(prefix): layer for layer in layers(path, zoo.geometries)}
    assert {name: (layer.verdict.value, layer.code) for name, layer in found.items()} == {
        name: answer[:2] for name, answer in GEOMETRIES.items()
    }


@pytest.mark.parametrize("prefix", ["ema.", "model_ema.", "teacher."])
def test_a_copy_beside_the_model_is_not_taken_for_it(prefix: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    state = zoo.geometries().state_dict()
    copies = {prefix + name: tensor.clone() for name, tensor in state.items()}
    save_file({**state, **copies}, path)
    found = {layer.module: layer.verdict.value for layer in layers(path, zoo.geometries)}
    assert found["plain"] == "eligible"
    assert found[f"{prefix}plain"] == "undecided"
