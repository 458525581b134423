"""The recipe: its golden JSON, and that nothing in a damaged one gets through."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convsurgeon.errors import RecipeError
from convsurgeon.evidence import Level, Statement
from convsurgeon.header import lay_out, parse
from convsurgeon.plan import METADATA_KEY, Recipe
from tests.plans import ORIGINAL, RECIPE, STEP, swapped
from tests.strategies import JSON, counted, places, replaced

GOLDEN = (
    '{"schema":"convsurgeon.recipe/1","tool":"convsurgeon 0.1.0",'
    '"original":{"name":"model.safetensors","header_length":120,'
    f'"header_sha256":"{"cd" * 32}","has_metadata":true,"header":null,"dropped":[]}},'
    '"steps":[{"key":"proj.weight","rule":"patchify","layout":"c p1 p2",'
    '"from":{"form":"conv2d","shape":[4,3,2,2]},"to":{"form":"linear","shape":[4,12]},'
    '"geometry":{"kernel":[2,2],"stride":[2,2],"padding":[0,0],"dilation":[1,1],"groups":1},'
    '"evidence":{"level":"config","source":"config.json: patch_size 2"},'
    f'"sha256":"{"ab" * 32}"}}]}}'
)
DOCUMENT: dict[str, Any] = json.loads(GOLDEN)
FIRST_STEP = ("steps", 0)


def test_golden() -> None:
    assert RECIPE.to_text() == GOLDEN


def test_golden_is_read_back() -> None:
    assert Recipe.from_text(GOLDEN) == RECIPE


def test_a_step_speaks_about_the_weight_before_it() -> None:
    source = "recipe: config, config.json: patch_size 2"
    assert STEP.statement() == Statement(Level.RECIPE, source, "conv2d", STEP.geometry)
    assert STEP.module == "proj"
    moved = counted((4, 3, 2, 2)).reshape(STEP.arrangement.split).transpose(STEP.arrangement.axes)
    assert moved.reshape(4, 12).tolist() == counted((4, 12)).tolist()


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_round_trip_through_a_header(text: str) -> None:
    original = replace(ORIGINAL, dropped=(text, "optimizer"), header=text)
    recipe = replace(RECIPE, tool=text, original=original, steps=(replace(STEP, key=text),))
    header = swapped(recipe)
    read = parse(lay_out(header)[8:], header.data_bytes)
    assert Recipe.from_text(read.metadata_map[METADATA_KEY]) == recipe


def test_steps_that_follow_each_other() -> None:
    back = replace(
        STEP, rule="unpatchify", source_form="linear", target_form="conv2d",
        source_shape=(4, 12), target_shape=(4, 3, 2, 2),
    )  # fmt: skip
    recipe = replace(RECIPE, steps=(STEP, back, STEP))
    assert Recipe.from_text(recipe.to_text()) == recipe


def assert_damaged(text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_text(text)
    assert caught.value.code == "CS082"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "[]", "1", '"x"', "{}", "NaN", GOLDEN + "x", GOLDEN.replace("recipe/1", "recipe/2"),
     "[" * 100_000, "{" * 100_000, "9" * 6000, GOLDEN.replace("120", "9" * 6000), GOLDEN[:-2]],
)  # fmt: skip
def test_no_recipe(text: str) -> None:
    assert_damaged(text)


HUGE = 10**4000
DAMAGES: list[tuple[tuple[str | int, ...], list[Any]]] = [
    (("schema",), [None, "", "convsurgeon.scan/1", 1]),
    (("tool",), [None, 1, [], "\ud800"]),
    (("original",), [None, [], "x"]),
    (("original", "name"), [None, "", ".", "..", "a/b", "/etc/passwd", "a\\b", "a\0", "a\n", "\ud800"]),
    (("original", "header_length"), [None, -1, 0, True, 1.0, "120", 100_000_001, HUGE]),
    (("original", "header_sha256"), [None, "", "CD" * 32, "cd" * 31, "cd" * 32 + "\n", 5]),
    (("original", "has_metadata"), [None, 0, 1, "true"]),
    (("original", "header"), [0, [], {}, False, "\udfff"]),
    (("original", "dropped"), [None, "x", [1], [None], {"a": 1}]),
    (("steps",), [None, {}, "x", [None], [[]], [1]]),
    ((*FIRST_STEP, "key"), [None, 1, "\ud800"]),
    ((*FIRST_STEP, "rule"), [None, 1, []]),
    ((*FIRST_STEP, "layout"), [None, "", "p1 c p2", 1]),
    ((*FIRST_STEP, "from"), [None, [], "conv2d"]),
    ((*FIRST_STEP, "from", "form"), [None, "", "linear", "conv1d", "conv3d", "conv_transpose2d"]),
    ((*FIRST_STEP, "from", "shape"), [None, [], [4], [4, 12], [4, 3, 2], [4, 3, 2, 3], [4, 3, 2, 2, 1],
                                      [4, 3, 2, 2.0], [4, 3, 2, True], [-4, -3, 2, 2], [4, 3, HUGE, 2]]),
    ((*FIRST_STEP, "to"), [None, [], "linear"]),
    ((*FIRST_STEP, "to", "form"), [None, "", "conv2d", "Linear"]),
    ((*FIRST_STEP, "to", "shape"), [None, [], [48], [12, 4], [4, 13], [4, 3, 2, 2], [HUGE, 12], ["4", 12]]),
    ((*FIRST_STEP, "geometry"), [None, [], {}]),
    ((*FIRST_STEP, "geometry", "kernel"), [None, [], [2], [4, 1], [2, 2, 1], [2, "2"]]),
    ((*FIRST_STEP, "geometry", "stride"), [None, [2], [2, 0], [2, 2.0], [2, 1], [1, 1], [4, 4]]),
    ((*FIRST_STEP, "geometry", "padding"), [None, [0], [0, -1]]),
    ((*FIRST_STEP, "geometry", "dilation"), [None, [1], [0, 1]]),
    ((*FIRST_STEP, "geometry", "groups"), [None, 0, True, "1"]),
    ((*FIRST_STEP, "evidence"), [None, [], "config", 1, ["config", "x"]]),
    ((*FIRST_STEP, "evidence", "level"), [None, 3]),
    ((*FIRST_STEP, "evidence", "source"), [None, 3]),
    ((*FIRST_STEP, "sha256"), [None, "", "xx" * 32, "AB" * 32, 0]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value"),
    [(path, value) for path, values in DAMAGES for value in values],
    ids=lambda part: str(part)[:40].encode("ascii", "backslashreplace").decode(),
)
def test_each_field_damaged(path: tuple[str | int, ...], value: Any) -> None:
    assert_damaged(json.dumps(replaced(DOCUMENT, path, value)))


def test_every_field_stands_in_the_table() -> None:
    paths = [p for p in places(DOCUMENT) if p and p != FIRST_STEP and not isinstance(p[-1], int)]
    assert {path for path, _ in DAMAGES} == set(paths)


@pytest.mark.parametrize(
    "path", [p for p in places(DOCUMENT) if p and isinstance(p[-1], str)], ids=str
)
def test_each_field_missing(path: tuple[str | int, ...]) -> None:
    copy = json.loads(GOLDEN)
    target = copy
    for step in path[:-1]:
        target = target[step]
    del target[path[-1]]
    assert_damaged(json.dumps(copy))


def test_steps_that_do_not_follow_each_other() -> None:
    assert_damaged(replace(RECIPE, steps=(STEP, STEP)).to_text())


@settings(max_examples=400)
@given(st.sampled_from(places(DOCUMENT)), JSON)
def test_any_json_in_any_place_is_a_recipe_or_refused(
    path: tuple[str | int, ...], value: Any
) -> None:
    try:
        recipe = Recipe.from_text(json.dumps(replaced(DOCUMENT, path, value)))
    except RecipeError as error:
        code = error.code
    else:
        code = "CS082"
        assert Recipe.from_text(recipe.to_text()) == recipe
        recipe.to_text().encode()
    assert code == "CS082"


@settings(max_examples=300)
@given(st.integers(0, len(GOLDEN)), st.integers(0, 5), st.text(max_size=3))
def test_any_text_is_a_recipe_or_refused(start: int, length: int, text: str) -> None:
    damaged = GOLDEN[:start] + text + GOLDEN[start + length :]
    try:
        recipe = Recipe.from_text(damaged)
    except RecipeError:
        return
    assert Recipe.from_text(recipe.to_text()) == recipe
