"""Geometries as values: what can be one, and how it is written."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsurgeon.geometry import Geometry, conv_form, is_conv, parse_sizes, times
from tests.strategies import JSON, geometries

GOLDEN = {
    "kernel": [2, 14, 14],
    "stride": [2, 14, 14],
    "padding": [0, 0, 0],
    "dilation": [1, 1, 1],
    "groups": 1,
}


def test_golden_json() -> None:
    geometry = Geometry.plain((2, 14, 14), (2, 14, 14))
    assert geometry.to_json() == GOLDEN
    assert Geometry.from_json(GOLDEN) == geometry
    assert (geometry.ndim, geometry.window) == (3, 392)


@given(geometries())
def test_json_round_trip(geometry: Geometry) -> None:
    assert Geometry.from_json(json.loads(json.dumps(geometry.to_json()))) == geometry


@pytest.mark.parametrize(
    "change",
    [
        {"kernel": []},
        {"kernel": [1, 1, 1, 1], "stride": [1] * 4, "padding": [0] * 4, "dilation": [1] * 4},
        {"kernel": [2, 14]},
        {"kernel": [2, 14, 0]},
        {"stride": [2, 14]},
        {"stride": [2, 14, 0]},
        {"padding": [0, 0, -1]},
        {"dilation": [1, 1, 0]},
        {"groups": 0},
        {"groups": True},
        {"groups": 1.0},
        {"groups": None},
        {"kernel": "222"},
        {"kernel": [2, 14, 14.0]},
        {"kernel": [2, 14, "14"]},
        {"kernel": {"0": 2}},
        {"padding": [False, False, False]},
    ],
)
def test_no_geometry(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"geometry|fit"):
        Geometry.from_json(GOLDEN | change)


@pytest.mark.parametrize("field", GOLDEN)
def test_a_missing_field(field: str) -> None:
    rest = {name: value for name, value in GOLDEN.items() if name != field}
    with pytest.raises(ValueError, match=f"no geometry: '{field}'"):
        Geometry.from_json(rest)


@given(st.sampled_from(list(GOLDEN)), JSON)
def test_any_json_is_a_geometry_or_a_value_error(field: str, value: Any) -> None:
    try:
        geometry = Geometry.from_json(GOLDEN | {field: value})
    except ValueError:
        return
    assert Geometry.from_json(geometry.to_json()) == geometry


def test_dilation_means_nothing_where_the_kernel_is_one() -> None:
    geometry = Geometry((1, 2), (1, 2), (0, 0), (3, 3), 2)
    assert geometry.effective() == Geometry((1, 2), (1, 2), (0, 0), (1, 3), 2)


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("16", (16,)),
        ("2x14x14", (2, 14, 14)),
        ("0", (0,)),
        ("007", (7,)),
        ("999999999", (999999999,)),
    ],
)
def test_parse_sizes(text: str, sizes: tuple[int, ...]) -> None:
    assert parse_sizes(text) == sizes


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "16x",
        "x16",
        "2x-1",
        "2X2",
        "2 x 2",
        "2*2",
        "1.5",
        "²",
        "١",
        "16\n",
        "1" * 10,
        "0x10x",
    ],
)
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        parse_sizes(text)


@given(st.lists(st.integers(0, 10**9 - 1), min_size=1, max_size=4))
def test_sizes_are_read_as_they_are_written(sizes: list[int]) -> None:
    assert parse_sizes(times(tuple(sizes)).replace("×", "x")) == tuple(sizes)


def test_forms() -> None:
    assert [conv_form(n) for n in (1, 2, 3)] == ["conv1d", "conv2d", "conv3d"]
    assert all(is_conv(conv_form(n)) for n in (1, 2, 3))
    others = ["conv0d", "conv4d", "linear", "conv_transpose2d", "conv2d\n", "xconv2d", ""]
    assert not any(is_conv(form) for form in others)
