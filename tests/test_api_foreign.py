"""Files that other tools rewrote: no recipe, so the same evidence rules as for a swap decide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import convsurgeon as cs
from convsurgeon.errors import RecipeError
from tests.cli_helpers import invoke

STATED = ["proj=s2"]
Rewrite = Callable[[torch.Tensor], torch.Tensor]


def original(folder: Path, shape: tuple[int, ...] = (12, 3, 2, 2)) -> Path:
    torch.manual_seed(0)
    tensors = {"proj.weight": torch.randn(shape), "proj.bias": torch.randn(shape[0])}
    path = folder / "original.safetensors"
    save_file({**tensors, "norm.weight": torch.randn(5)}, path, metadata={"format": "pt"})
    return path


def rewritten(path: Path, rewrite: Rewrite) -> Path:
    """What a throwaway script does: load, rewrite, save, forget."""
    tensors = load_file(path)
    tensors["proj.weight"] = rewrite(tensors["proj.weight"]).contiguous()
    target = path.with_name("other.safetensors")
    save_file(tensors, target, metadata={"format": "pt"})
    return target


RIGHT: dict[str, tuple[Rewrite, str]] = {
    "channel first": (lambda w: w.flatten(1), "c p1 p2"),
    "channel last": (lambda w: w.permute(0, 2, 3, 1).flatten(1), "p1 p2 c"),
}
WRONG: dict[str, Rewrite] = {
    "transposed": lambda w: w.flatten(1).T,
    "kernel axes exchanged": lambda w: w.transpose(2, 3).flatten(1),
    "rows shifted": lambda w: w.flatten(1).roll(1, 0),
    "one element changed": lambda w: w.flatten(1).index_put((torch.tensor(3), torch.tensor(5)), torch.tensor(9.0)),
    "cut": lambda w: w.flatten(1)[:, :8],
}  # fmt: skip


@pytest.mark.parametrize(("rewrite", "layout"), RIGHT.values(), ids=list(RIGHT))
def test_the_layout_that_holds_is_found(tmp_path: Path, rewrite: Rewrite, layout: str) -> None:
    before = original(tmp_path)
    verdict = cs.verify(before, rewritten(before, rewrite), geometry=STATED)

    assert verdict.equivalent
    (layer,) = verdict.files[0].layers
    assert layer.layout == layout
    assert layer.function is not None
    assert layer.function.equal


@pytest.mark.parametrize("rewrite", WRONG.values(), ids=list(WRONG))
def test_a_wrong_script_is_refuted(tmp_path: Path, rewrite: Rewrite) -> None:
    before = original(tmp_path)
    after = rewritten(before, rewrite)
    ran = invoke("verify", before, after, "--geometry", STATED[0])

    assert ran.code == 1
    assert "proj" in ran.out
    assert "not equivalent" in ran.out


def test_the_report_says_that_no_layout_holds(tmp_path: Path) -> None:
    before = original(tmp_path)
    after = rewritten(before, WRONG["kernel axes exchanged"])
    (complaint,) = cs.verify(before, after, geometry=STATED, function=False).files[0].complaints

    assert complaint.startswith("proj: no layout holds; c p1 p2: ")
    assert "; p1 p2 c: " in complaint
    assert complaint.count("of 144 elements differ") == 2


def renamed(path: Path, names: dict[str, str], rewrite: Rewrite) -> Path:
    tensors = load_file(rewritten(path, rewrite))
    target = path.with_name("renamed.safetensors")
    moved = {names.get(name, name): tensor for name, tensor in tensors.items()}
    save_file(moved, target, metadata={"format": "pt"})
    return target


CHILD = {"proj.weight": "proj.linear.weight", "proj.bias": "proj.linear.bias"}


@pytest.mark.parametrize(("rewrite", "layout"), RIGHT.values(), ids=list(RIGHT))
def test_a_renamed_layer_is_found_and_its_new_name_said(
    tmp_path: Path, rewrite: Rewrite, layout: str
) -> None:
    before = original(tmp_path)
    verdict = cs.verify(before, renamed(before, CHILD, rewrite), geometry=STATED)

    (layer,) = verdict.files[0].layers
    assert layer.equivalent
    assert layer.layout == layout
    assert layer.function is not None  # with the bias, which has another name as well
    # Whoever loads the file looks for the old names: it is not the same checkpoint.
    assert verdict.files[0].differences == (
        "tensor proj.bias is named proj.linear.bias",
        "tensor proj.weight is named proj.linear.weight",
    )
    assert not verdict.equivalent


def test_a_renamed_layer_that_is_wrong_is_refuted(tmp_path: Path) -> None:
    before = original(tmp_path)
    after = renamed(before, CHILD, WRONG["rows shifted"])
    (layer,) = cs.verify(before, after, geometry=STATED).files[0].layers

    assert not layer.bits.equal
    assert layer.function is not None
    assert not layer.function.equal


@pytest.mark.parametrize("target", ["other.matrix", "a.weight"])
def test_without_a_common_name_or_evidence_it_is_another_tensor(
    tmp_path: Path, target: str
) -> None:
    before = original(tmp_path)
    stated = STATED if target == "other.matrix" else []
    after = renamed(before, {"proj.weight": target}, RIGHT["channel first"][0])
    verdict = cs.verify(before, after, geometry=stated)

    assert verdict.files[0].layers == ()
    assert verdict.files[0].differences == (
        "tensor proj.weight is missing",
        f"tensor {target} was not in the original",
    )


def test_of_two_that_are_as_close_none_is_taken(tmp_path: Path) -> None:
    before = original(tmp_path)
    tensors = load_file(before)
    weight = tensors.pop("proj.weight").flatten(1)
    after = before.with_name("two.safetensors")
    twice = {"proj.a.weight": weight, "proj.b.weight": weight.clone()}
    save_file({**tensors, **twice}, after, metadata={"format": "pt"})
    verdict = cs.verify(before, after, geometry=STATED)

    assert verdict.files[0].layers == ()
    assert len(verdict.files[0].differences) == 3


def test_an_untouched_tensor_under_another_name_is_found_by_its_bytes(tmp_path: Path) -> None:
    before = original(tmp_path)
    tensors = load_file(before)
    tensors |= {"norm.scale": tensors.pop("norm.weight"), "norm.other": torch.randn(5)}
    after = before.with_name("names.safetensors")
    save_file(tensors, after, metadata={"format": "pt"})

    assert cs.verify(before, after).files[0].differences == (
        "tensor norm.weight is named norm.scale",
        "tensor norm.other was not in the original",
    )


def test_a_transposed_square_matrix_is_refuted(tmp_path: Path) -> None:
    before = original(tmp_path, (12, 3, 2, 2))
    after = rewritten(before, lambda w: w.flatten(1).T)

    assert load_file(after)["proj.weight"].shape == (12, 12)
    assert not cs.verify(before, after, geometry=STATED).equivalent


def test_without_evidence_nothing_is_claimed(tmp_path: Path) -> None:
    before = original(tmp_path)
    after = rewritten(before, lambda w: w.flatten(1))

    with pytest.raises(RecipeError) as caught:
        cs.verify(before, after)
    assert caught.value.code == "CS081"
    assert "--geometry proj=k2x2,s2x2,p0,d1,g1" in str(caught.value)


def test_an_overlapping_conv_is_never_a_matrix(tmp_path: Path) -> None:
    before = original(tmp_path)
    after = rewritten(before, lambda w: w.flatten(1))

    with pytest.raises(RecipeError, match="windows overlap"):
        cs.verify(before, after, geometry=["proj=s1"])


def test_a_linear_made_a_conv(tmp_path: Path) -> None:
    before = original(tmp_path, (6, 12))
    after = rewritten(before, lambda w: w.reshape(6, 3, 2, 2))

    assert cs.verify(before, after, input_shape=["proj=3x2x2"]).equivalent
    assert not cs.verify(before, after, input_shape=["proj=12x1x1"]).equivalent


def test_a_swapped_file_saved_again_in_another_order_is_still_proved(tmp_path: Path) -> None:
    before = original(tmp_path)
    ours = tmp_path / "ours.safetensors"
    cs.swap(before, ours, geometry=STATED, verify="bits")
    recipe = {"convsurgeon": cs_recipe(ours), "format": "pt"}
    again = tmp_path / "again.safetensors"
    tensors = load_file(ours)
    save_file({f"{name}": t for name, t in sorted(tensors.items())}, again, metadata=recipe)
    assert cs.verify(before, again).equivalent

    tensors["proj.weight"] = tensors["proj.weight"].T.contiguous()
    save_file(tensors, again, metadata=recipe)
    assert not cs.verify(before, again).equivalent


def cs_recipe(path: Path) -> str:
    recipe = cs.scan(path).files[0].metadata["convsurgeon"]
    assert recipe
    return recipe
