"""The module tree, and the order in which names are shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsurgeon.tree import compact, grow, module_of, natural


@pytest.mark.parametrize(
    ("key", "module"),
    [
        ("a.b.weight", "a.b"),
        ("weight", ""),
        ("", ""),
        (".weight", ""),
        ("a..weight", "a."),
        ("a.", "a"),
    ],
)
def test_module_of(key: str, module: str) -> None:
    assert module_of(key) == module


@pytest.mark.parametrize(
    "ordered",
    [
        ["blocks.2", "blocks.10"],
        ["a", "a1", "a2", "a10", "b"],
        ["", "a"],
        ["v1.9", "v1.10", "v2"],
        ["x9", "x" + "1" * 4050, "x" + "2" * 4050, "x" + "1" * 4051],
        ["é2", "é10"],
    ],
)
def test_natural_order(ordered: list[str]) -> None:
    shuffled = ordered[1::2] + ordered[::2]
    assert sorted(shuffled, key=natural) == ordered


@given(st.lists(st.integers(0, 10**6)))
def test_numbers_stand_in_their_order(numbers: list[int]) -> None:
    names = [f"layer.{n}.weight" for n in numbers]
    assert sorted(names, key=natural) == [f"layer.{n}.weight" for n in sorted(numbers)]


@given(st.text(), st.text())
def test_any_two_names_compare(first: str, second: str) -> None:
    assert (natural(first) < natural(second)) + (natural(first) > natural(second)) <= 1
    assert natural(first) == natural(first)


def test_digits_that_are_not_ascii_are_letters() -> None:
    assert natural("x²٣") == [(0, 0, "x²٣")]


def test_the_order_of_a_very_long_name_costs_little() -> None:
    assert natural("a1" * 3000) == [(0, 0, "a1" * 3000)]


def test_tree_golden() -> None:
    root = grow(["blocks.10.conv", "head", "blocks.2.conv", "head", "blocks", ""])
    shown = [(node.path, node.name) for node in root.walk()]
    assert shown == [
        ("", ""),
        ("blocks", "blocks"),
        ("blocks.2", "2"),
        ("blocks.2.conv", "conv"),
        ("blocks.10", "10"),
        ("blocks.10.conv", "conv"),
        ("head", "head"),
    ]


@given(st.lists(st.from_regex(r"[a-c1-3]{0,2}(\.[a-c1-3]{0,2}){0,3}", fullmatch=True)))
def test_every_module_stands_in_the_tree_once(modules: list[str]) -> None:
    paths = [node.path for node in grow(modules).walk()]
    assert set(modules) - {""} <= set(paths)
    root, *others = paths
    assert root == ""
    prefixes = {
        ".".join(m.split(".")[: n + 1]) for m in modules if m for n in range(m.count(".") + 1)
    }
    assert sorted(others) == sorted(prefixes)


def test_a_name_of_many_dots_is_one_node() -> None:
    deep = "a." * 100_000
    assert [node.path for node in grow([deep, "b"]).walk()] == ["", deep, "b"]


def test_chains_of_only_children_become_one_node() -> None:
    modules = ["vit.embed.proj", "vit.layers.0.conv", "vit.layers.0.conv.inner.x", "head"]
    root = compact(grow(modules), set(modules))

    assert [(node.path, node.name) for node in root.walk()] == [
        ("", ""),
        ("head", "head"),
        ("vit", "vit"),
        ("vit.embed.proj", "embed.proj"),
        ("vit.layers.0.conv", "layers.0.conv"),
        ("vit.layers.0.conv.inner.x", "inner.x"),
    ]
