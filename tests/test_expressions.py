"""Geometry computed from a config's fields: the expressions, and hostile configs of known types."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsurgeon.errors import ContradictionError, RefusedError
from convsurgeon.evidence import Statement
from convsurgeon.geometry import Geometry
from convsurgeon.sources.catalogue import table
from convsurgeon.sources.config import ConfigSpeaker
from convsurgeon.sources.expressions import Lookup, NoSuchStageError, at, cite, fields
from tests.strategies import JSON

FIELD = {"f": "a"}


def lookup(config: dict[str, Any], **defaults: Any) -> Lookup:
    return Lookup(
        config, {name.replace("__", "."): v for name, v in defaults.items()}, "config.json"
    )


def op(sign: str, a: Any, b: Any) -> dict[str, Any]:
    return {"op": sign, "a": a, "b": b}


def values(
    expression: Any, config: Any, index: tuple[int, ...] = (), low: int = 0
) -> tuple[int, ...]:
    return lookup(config).numbers([expression], index, low)


# --- numbers


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (7, 7),
        (FIELD, 12),
        (op("+", FIELD, 3), 15),
        (op("-", FIELD, 3), 9),
        (op("*", FIELD, {"f": "b"}), 60),
        (op("//", FIELD, {"f": "b"}), 2),
        (op("%", FIELD, {"f": "b"}), 2),
        (op("//", op("-", op("*", FIELD, 2), 1), 2), 11),
        (op("-", 0, op("-", 0, FIELD)), 12),
        ({"f": "s.t.c"}, 4),
    ],
    ids=str,
)
def test_each_operator(expression: Any, expected: int) -> None:
    assert values(expression, {"a": 12, "b": 5, "s": {"t": {"c": 4}}}) == (expected,)


@pytest.mark.parametrize(
    ("expression", "config", "named"),
    [
        (FIELD, {}, "a is None"),
        (FIELD, {"a": None}, "a is None"),
        (FIELD, {"a": True}, "a is True"),
        (FIELD, {"a": 1.0}, "a is 1.0"),
        (FIELD, {"a": "1"}, "a is '1'"),
        (FIELD, {"a": -1}, "a is -1"),
        (FIELD, {"a": 2**31}, "a is 2147483648"),
        (FIELD, {"a": 10**400}, "a is 1000"),
        (FIELD, {"a": {}}, "a is {}"),
        (FIELD, {"a": []}, r"a is \[\]"),
        (FIELD, {"a": [1, 2]}, "a is .*, or 1 of them"),
        (FIELD, {"a": [True]}, "a is "),
        (FIELD, {"a": [[1]]}, "a is "),
        ({"f": "s.a"}, {"s": [1]}, "s is "),
        ({"f": "s.t.a"}, {"s": {"t": "x"}}, "t is 'x'"),
        (op("//", 4, FIELD), {"a": 0}, "a is 0, not a divisor"),
        (op("%", 4, op("-", FIELD, 2)), {"a": 2}, "a is 0, not a divisor"),
        (op("-", FIELD, 5), {"a": 4}, r"a is \[-1\], not numbers from 0 on"),
        (op("*", FIELD, FIELD), {"a": 2**30}, "not numbers from 0 on"),
        ({"f": "a", "i": [0]}, {"a": []}, "a list of positive integers"),
        ({"f": "a", "i": [0]}, {"a": "text"}, "a list of positive integers"),
        ({"f": "a", "i": [0]}, {"a": [True]}, "a is True"),
        ({"f": "a", "i": [0]}, {"a": [[1]]}, r"a is \[1\]"),
        ({"f": "a", "i": [[0, 0]]}, {"a": 4}, "a is 4"),
    ],
    ids=str,
)
def test_a_field_of_a_wrong_type_is_named(expression: Any, config: Any, named: str) -> None:
    with pytest.raises(RefusedError, match=named) as caught:
        values(expression, config, (0,))
    assert (caught.value.code, caught.value.where) == ("CS063", "config.json")
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(("low", "number", "fine"), [(0, 0, True), (1, 0, False), (1, 1, True)])
def test_strides_are_not_zero_and_paddings_may_be(low: int, number: int, fine: bool) -> None:
    if fine:
        assert values(FIELD, {"a": number}, low=low) == (number,)
    else:
        with pytest.raises(RefusedError, match=f"numbers from {low} on"):
            values(FIELD, {"a": number}, low=low)


def test_one_number_or_one_for_each_axis() -> None:
    assert lookup({"a": 4}).numbers([FIELD, FIELD], (), 1) == (4, 4)
    assert lookup({"a": [4, 8]}).numbers([FIELD, FIELD], (), 1) == (4, 8)
    assert lookup({"a": 4}).numbers([{"f": "a", "i": [0]}, {"f": "a", "i": [1]}], (), 1) == (4, 4)
    with pytest.raises(RefusedError, match="2 of them"):
        lookup({"a": [4, 8, 2]}).numbers([FIELD, FIELD], (), 1)


def test_a_stage_is_given_by_the_block_number() -> None:
    config = {"a": [[1, 2], [3, 4], [5]]}
    nested = {"f": "a", "i": [[0, 0], [1, 0]]}
    assert values(nested, config, (1, 0)) == (3,)
    assert values({"f": "a", "i": [[1, -1], 0]}, config, (9, 3)) == (5,)
    for index in ((3, 0), (2, 1), (10**9, 0)):
        with pytest.raises(NoSuchStageError):
            values(nested, config, index)
    with pytest.raises(NoSuchStageError):  # never the last one, as -1 is to Python
        values({"f": "a", "i": [[0, -1], 0]}, config, (0,))


def test_at() -> None:
    assert at([3, [0, 0], [1, 2]], (5, 6)) == (3, 5, 8)
    assert at([], (1,)) == ()


def test_a_default_counts_where_the_config_is_silent() -> None:
    said = lookup({"s": {"x": 1}, "t": None}, s__a=2, t__a=3, u=4)
    assert [said.value(p) for p in ("s.a", "s.x", "t.a", "u", "none")] == [2, 1, 3, 4, None]
    assert [said.is_default(p) for p in ("s.a", "s.x", "t.a", "u", "s")] == [
        True,
        False,
        True,
        True,
        False,
    ]


def test_fields_and_what_is_cited() -> None:
    expressions = [op("//", {"f": "a", "i": [[0, 0]]}, {"f": "b"}), 3, {"f": "b"}]
    assert list(fields(expressions)) == ["a", "b", "b"]
    assert cite(lookup({"a": [5, 6]}, b=2), expressions, (1,)) == ["a 6", "b 2 by default"]


NUMBERS = st.integers(-3, 3) | st.integers()


@st.composite
def trees(draw: st.DrawFn) -> Any:
    leaf = st.integers(-3, 9) | st.sampled_from([FIELD, {"f": "s.b"}, {"f": "a", "i": [[0, 0]]}])
    sides = st.recursive(
        leaf,
        lambda inner: st.builds(op, st.sampled_from(["+", "-", "*", "//", "%"]), inner, inner),
        max_leaves=6,
    )
    return draw(sides)


@given(trees(), st.dictionaries(st.sampled_from(["a", "s"]), JSON))
def test_no_expression_and_no_config_do_more_than_refuse(tree: Any, config: dict[str, Any]) -> None:
    try:
        (found,) = values(tree, config, (0,))
    except (RefusedError, NoSuchStageError):
        return
    assert 0 <= found < 2**31


@given(trees(), st.integers(0, 50), st.integers(0, 50))
def test_arithmetic_is_that_of_python(tree: Any, a: int, b: int) -> None:
    def by_hand(node: Any) -> int:
        if isinstance(node, int):
            return node
        if "op" not in node:
            return a if node["f"] == "a" else b
        one, other = by_hand(node["a"]), by_hand(node["b"])
        signs = {
            "+": int.__add__,
            "-": int.__sub__,
            "*": int.__mul__,
            "//": int.__floordiv__,
            "%": int.__mod__,
        }
        return signs[node["op"]](one, other)

    def given_a(node: Any) -> Any:
        """The same with one number in place of a list's element."""
        if isinstance(node, dict) and "op" in node:
            return {**node, "a": given_a(node["a"]), "b": given_a(node["b"])}
        return FIELD if isinstance(node, dict) and node["f"] == "a" else node

    try:
        expected = by_hand(tree)
    except ZeroDivisionError:
        expected = -1
    if 0 <= expected < 2**31:
        assert values(given_a(tree), {"a": a, "s": {"b": b}}) == (expected,)
    else:
        with pytest.raises(RefusedError):
            values(given_a(tree), {"a": a, "s": {"b": b}})


# --- configs of every known type, with hostile values


@cache
def classes() -> dict[tuple[str, str], dict[str, Any]]:
    content = Path(table.__file__).with_name("catalogue.bin").read_bytes()
    keys = [key.split(":", 2) for key in table.unpack(content) if key.startswith("transformers:")]
    found = {(kind, name): table.entry(f"transformers:{kind}:{name}") for _, kind, name in keys}
    return {
        names: entry
        for names, entry in sorted(found.items())
        if entry["defaults"] or entry.get("types")
    }


def put(config: dict[str, Any], path: str, value: Any) -> None:
    *sections, name = path.split(".")
    for section in sections:
        if not isinstance(config.get(section), dict):
            config[section] = {}
        config = config[section]
    config[name] = value


SIZES = st.integers(0, 4) | st.lists(
    st.integers(0, 4) | st.lists(st.integers(0, 4), max_size=3), max_size=5
)


@st.composite
def configs(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, Any]]:
    (kind, name), entry = draw(st.sampled_from(sorted(classes().items(), key=lambda pair: pair[0])))
    config: dict[str, Any] = {"model_type": kind}
    paths = [
        *entry["defaults"],
        *(p for p in entry.get("types", {}) if p),
        *entry.get("guards", {}),
    ]
    for path in draw(st.lists(st.sampled_from(sorted(paths) or ["x"]), max_size=3)):
        put(config, path, draw(SIZES | JSON))
    if draw(st.booleans()):
        config["architectures"] = [name]
    config |= draw(
        st.dictionaries(
            st.sampled_from(["auto_map", "backbone_kwargs", "vision_config_dict"]), JSON, max_size=1
        )
    )
    return config, entry


CODES = {RefusedError: "CS063", ContradictionError: "CS061"}


def asked(config: dict[str, Any], keys: list[str], shape: tuple[int, ...]) -> list[Statement]:
    """What a config says about the weights; nothing where it is refused, with its code."""
    found = []
    try:
        said = ConfigSpeaker.of(config, name="config.json", where="config.json")
    except RefusedError as error:
        return check(error)
    for key in keys:
        try:
            found.append(said.about(key, shape))
        except (RefusedError, ContradictionError) as error:
            found += check(error)
    return [statement for statement in found if statement]


def check(error: RefusedError | ContradictionError) -> list[Statement]:
    assert error.code == CODES[type(error)]
    return []


@given(configs(), st.integers(0, 12), st.lists(st.integers(1, 4), min_size=1, max_size=3))
def test_a_config_is_read_or_refused(
    made: tuple[dict[str, Any], dict[str, Any]], number: int, kernel: list[int]
) -> None:
    config, entry = made
    keys = [key for n in entry["slots"] for key in (n, n.replace("*", str(number)), f"module.{n}")]
    for found in asked(config, keys, (8, 8, *kernel)):
        assert found.level.label == "config"
        if found.geometry:
            assert Geometry.from_json(found.geometry.to_json()) == found.geometry
            assert min(found.geometry.kernel + found.geometry.stride) >= 1


OTHERS = ["architecture", "model_args", "pretrained_cfg", "model_type", "_class_name", "patch_size"]
TITLES = ["vit_base_patch16_224", "resnet50.a1_in1k", "UNet2DModel", "vit"]


@given(st.dictionaries(st.sampled_from(OTHERS), JSON | st.sampled_from(TITLES)))
def test_configs_of_other_libraries_too(config: dict[str, Any]) -> None:
    for found in asked(config, ["patch_embed.proj.weight"], (8, 3, 4, 4)):
        assert found.level.label == "config"


def test_a_star_in_a_name_is_no_block_number() -> None:
    said = ConfigSpeaker.parse(json.dumps({"model_type": "segformer"}).encode())
    key = "encoder.patch_embeddings.{}.proj.weight"
    assert said.about(key.format("*"), (8, 3, 7, 7)) is None
    assert said.about(key.format("0"), (8, 3, 7, 7)) is not None
