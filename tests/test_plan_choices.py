"""What the user chooses, what several shards come to, and what earlier swaps did."""

from __future__ import annotations

from dataclasses import replace

import pytest

from convsurgeon.errors import ContradictionError, RecipeError, UsageError
from convsurgeon.evidence import Level, Statement
from convsurgeon.geometry import LINEAR, Geometry
from convsurgeon.plan import LayerPlan, Verdict, Wish, make_plan
from tests.plans import (
    RECIPE,
    SIXTEEN,
    STEP,
    TWO,
    Says,
    Shape,
    config,
    contents,
    header,
    only_layer,
    plan,
    swapped,
)

CONV = Wish("conv")
KEY = "proj.weight"
SHAPES = {"enc.proj.weight": (4, 3, 2, 2), "enc.mix.weight": (4, 3, 1, 1), "dec.proj.weight": (4, 3, 2, 2)}  # fmt: skip
ALL = Says(
    {
        key: Statement(Level.CONFIG, "config", "conv2d", Geometry.plain(shape[2:], shape[2:]))
        for key, shape in SHAPES.items()
    }
)


@pytest.mark.parametrize(
    ("wish", "rewritten"),
    [
        (Wish(), ["dec.proj", "enc.mix", "enc.proj"]),
        (Wish(layers=("enc.*",)), ["enc.mix", "enc.proj"]),
        (Wish(layers=("dec.*", "*.mix")), ["dec.proj", "enc.mix"]),
        (Wish(exclude=("enc.*",)), ["dec.proj"]),
        (Wish(layers=("*.proj",), exclude=("dec.*",)), ["enc.proj"]),
        (Wish(only="patchify"), ["dec.proj", "enc.proj"]),
        (Wish(only="pointwise"), ["enc.mix"]),
        (Wish(layers=("ENC.*",)), []),
        (Wish(layers=("proj",)), []),
    ],
)
def test_filters(wish: Wish, rewritten: list[str]) -> None:
    made = plan(header(SHAPES), ALL, wish=wish)
    assert [layer.module for layer in made.rewrites] == rewritten
    assert {layer.verdict for layer in made.layers} == {Verdict.ELIGIBLE}
    for layer in made.layers:
        chosen = layer.module in rewritten
        assert ("; not chosen by" in layer.reason or "; left out by" in layer.reason) is not chosen


@pytest.mark.parametrize("level", list(Level)[1:])
@pytest.mark.parametrize("require", list(Level)[1:])
def test_require_evidence(level: Level, require: Level) -> None:
    layer = only_layer(
        header({KEY: (4, 3, 2, 2)}), config(KEY, TWO, level=level), wish=Wish(require=require)
    )
    assert (layer.rewrite is not None) is (level >= require)
    assert layer.evidence == (level.label, f"the {level.label}")


@pytest.mark.parametrize(
    ("kind", "changes"),
    [("--to", {"to": "Linear"}), ("--layout", {"layout": "c p2 p1"}), ("--only", {"only": "both"})],
)
def test_a_wish_for_something_unknown(kind: str, changes: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="is none of") as caught:
        replace(Wish(), **changes)  # type: ignore[arg-type] # every value is a str here
    assert (caught.value.code, caught.value.where) == ("CS090", kind)


def test_evidence_with_another_kernel_is_an_error() -> None:
    with pytest.raises(ContradictionError, match="the weight is") as caught:
        plan(header({KEY: (4, 3, 2, 2)}), config(KEY, SIXTEEN))
    assert (caught.value.code, caught.value.where) == ("CS061", "proj")


def test_warnings_become_notes() -> None:
    user = Statement(Level.USER, "--geometry", "conv2d", Geometry.plain((2, 2), (3, 3)))
    made = plan(header({KEY: (4, 3, 2, 2)}), config(KEY, TWO), Says({KEY: user}))
    assert made.layers[0].code == "CS002"
    assert made.notes[0] == "a note"
    assert made.notes[1].startswith("proj: --geometry says")


def test_shards() -> None:
    first = header({"a.weight": (1, 1, 1)}, {"format": "pt", "part": "1", "x": "1"})
    second = header(
        {"b.weight": (1, 1, 1), "a.bias": (1,), "c": (1,)}, {"format": "pt", "part": "2"}
    )
    made = make_plan(contents(first, second), [], Wish())
    files = {layer.key: layer.file for layer in made.layers}
    assert files == {"a.weight": "model-0.safetensors", "b.weight": "model-1.safetensors"}
    assert [layer.bias for layer in made.layers] == [True, False]
    assert (made.tensors, made.bytes, made.metadata) == (4, 1000, {"format": "pt"})


def history(wish: Wish, *speakers: Says) -> LayerPlan:
    return only_layer(swapped(), *speakers, wish=wish)


def test_what_a_recipe_did_is_already_done() -> None:
    layer = history(Wish())
    assert (layer.verdict, layer.form, layer.rewrite) == (Verdict.ALREADY, LINEAR, None)
    assert layer.reason == "already linear, by its recipe"
    assert layer.evidence == ("recipe", "recipe: config, config.json: patch_size 2")
    assert plan(swapped()).already
    assert not plan(swapped(), wish=CONV).already


@pytest.mark.parametrize("layout", ["c p1 p2", "p1 p2 c"])
def test_what_a_recipe_did_goes_back_in_its_own_layout(layout: str) -> None:
    layer = only_layer(swapped(replace(RECIPE, steps=(replace(STEP, layout=layout),))), wish=CONV)
    assert layer.verdict is Verdict.ELIGIBLE
    assert layer.rewrite is not None
    assert (layer.rewrite.weight_shape, layer.rewrite.layout) == ((4, 3, 2, 2), layout)
    assert layer.rewrite.arrangement == replace(STEP, layout=layout).arrangement.inverse()


@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (12, 4), (48,), (4, 13)])
@pytest.mark.parametrize("wish", [Wish(), CONV])
def test_a_recipe_that_no_longer_fits_its_tensor(shape: Shape, wish: Wish) -> None:
    with pytest.raises(RecipeError, match="its recipe made it") as caught:
        plan(swapped(shape=shape), wish=wish)
    assert (caught.value.code, caught.value.where) == ("CS082", KEY)


def test_a_damaged_recipe_is_an_error() -> None:
    with pytest.raises(RecipeError):
        plan(header({KEY: (4, 12)}, {"convsurgeon": "{}"}))
