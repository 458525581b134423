"""Names that a recipe declares: mutants of them, and that verification says no to each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import convsurgeon as cs
from convsurgeon.errors import ConvsurgeonError
from convsurgeon.plan import METADATA_KEY
from tests.cli_helpers import read, write
from tests.files import checkpoint
from tests.test_child_keys import SHAPES, code, swapped


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return checkpoint(tmp_path / "in.safetensors", SHAPES, {"format": "pt"})


Edit = Callable[[dict[str, Any], dict[str, str]], object]
B = "b.proj.linear."


def rename(tensors: dict[str, Any], old: str, new: str) -> None:
    items = [(new if name == old else name, tensor) for name, tensor in tensors.items()]
    tensors.clear()
    tensors.update(items)


def exchange(tensors: dict[str, Any], one: str, other: str) -> None:
    tensors[one], tensors[other] = tensors[other], tensors[one]


def steps(metadata: dict[str, str], change: Callable[[list[Any]], object]) -> None:
    recipe = json.loads(metadata[METADATA_KEY])
    change(recipe["steps"])
    metadata[METADATA_KEY] = json.dumps(recipe)


MUTANTS: dict[str, Edit] = {
    "weight in another child": lambda t, _: rename(t, B + "weight", "b.proj.lin.weight"),
    "bias in another child": lambda t, _: rename(t, B + "bias", "b.proj.lin.bias"),
    "in a child of another module": lambda t, _: rename(t, B + "weight", "b.linear.weight"),
    "bias left behind": lambda t, _: rename(t, B + "bias", "b.proj.bias"),
    "weight left behind": lambda t, _: rename(t, B + "weight", "b.proj.weight"),
    "bias under both names": lambda t, _: t.update({"b.proj.bias": t[B + "bias"]}),
    "weight under both names": lambda t, _: t.update({"b.proj.weight": t[B + "weight"]}),
    "old weight under its name": lambda t, _: t.update(
        {"b.proj.weight": t[B + "weight"]._replace(shape=(6, 3, 2, 2))}
    ),
    "bias missing": lambda t, _: t.pop(B + "bias"),
    "weights exchanged": lambda t, _: exchange(t, B + "weight", "a.linear.weight"),
    "weight and bias exchanged": lambda t, _: exchange(t, B + "weight", B + "bias"),
    "another tensor renamed": lambda t, _: rename(t, "head.weight", "head.linear.weight"),
    "no child in the recipe": lambda _, m: steps(m, lambda s: s[1].pop("child")),
    "bits of the bias": lambda t, _: t.update(
        {B + "bias": t[B + "bias"]._replace(data=bytes(24))}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mutant_is_refuted(name: str, original: Path) -> None:
    out = swapped(original)
    tensors, metadata = read(out)
    MUTANTS[name](tensors, metadata)
    mutant = write(out.with_name("mutant.safetensors"), tensors, metadata)
    verdict = cs.verify(original, mutant, function=False)
    assert not verdict.equivalent
    assert verdict.complaints
    if name == "bits of the bias":  # nothing but the original itself knows those
        return
    with pytest.raises(ConvsurgeonError):
        cs.restore(mutant, out.with_name("again.safetensors"))


def test_what_is_not_damaged_is_equivalent(original: Path) -> None:
    out = swapped(original)
    assert cs.verify(original, write(out.with_name("t.safetensors"), *read(out))).equivalent


@pytest.mark.parametrize("name", ["bias left behind", "weight left behind", "bias under both names", "weights exchanged", "weight and bias exchanged"])  # fmt: skip
def test_alone_a_file_is_held_against_its_recipe(name: str, original: Path) -> None:
    out = swapped(original)
    tensors, metadata = read(out)
    MUTANTS[name](tensors, metadata)
    assert not cs.verify(write(out, tensors, metadata)).equivalent


@pytest.mark.parametrize("child", [None, "", "lin", 1, True, ["linear"]])
def test_a_recipe_with_another_child_is_damaged(child: object, original: Path) -> None:
    out = swapped(original)
    tensors, metadata = read(out)
    steps(metadata, lambda s: s[0].update(child=child))
    assert code(lambda: cs.verify(original, write(out, tensors, metadata))) == "CS082"


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.append(s[0]),
        lambda s: s[0].update(key="b.proj.weight"),
        lambda s: s[0].update(key="b.proj.scale"),
    ],
)
def test_a_recipe_that_names_no_weight_or_one_twice_is_damaged(
    change: Callable[[list[Any]], object], original: Path
) -> None:
    out = swapped(original)
    tensors, metadata = read(out)
    steps(metadata, change)
    assert code(lambda: cs.verify(original, write(out, tensors, metadata))) == "CS082"
