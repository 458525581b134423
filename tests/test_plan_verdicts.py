"""Which verdict each layer gets, and why."""

from __future__ import annotations

import shlex
from fnmatch import fnmatchcase

import pytest
from hypothesis import given

from convsurgeon.evidence import Level, Statement
from convsurgeon.geometry import LINEAR, Geometry, Refusal, parse_sizes
from convsurgeon.plan import Verdict, Wish
from tests.plans import (
    ONE,
    TWO,
    Says,
    Shape,
    config,
    header,
    only_layer,
    plan,
)
from tests.strategies import NAMES

CONV = Wish("conv")
KEY = "proj.weight"
SEGFORMER = Geometry((7, 7), (4, 4), (3, 3), (1, 1))
SUBCLASS = Statement(Level.MODEL, "the model", "conv2d", TWO, Refusal("CS007", "a StdConv2d"))

Row = tuple[str, Shape, str, Says, Wish, str, str | None, str]
# key, shape, dtype, evidence, wish -> verdict, code, part of the reason
VERDICTS: dict[str, Row] = {
    "patchify": (KEY, (4, 3, 2, 2), "F32", config(KEY, TWO), Wish(), "eligible", None, "stride equals"),
    "pointwise": (KEY, (4, 3, 1, 1), "F16", config(KEY, ONE), Wish(), "eligible", None, "are 1"),
    "fp8": (KEY, (4, 3, 2, 2), "F8_E4M3", config(KEY, TWO), Wish(), "eligible", None, "stride equals"),
    "to conv": (KEY, (4, 12), "F32", config(KEY, TWO, LINEAR), CONV, "eligible", None, "over patches"),
    "overlapping": (KEY, (4, 3, 7, 7), "F32", config(KEY, SEGFORMER), Wish(), "refused", "CS001", "overlap"),
    "transposed": (KEY, (4, 3, 2, 2), "F32", config(KEY, TWO, "conv_transpose2d"), Wish(), "refused", "CS006", "transposed"),
    "subclass": (KEY, (4, 3, 2, 2), "F32", Says({KEY: SUBCLASS}), Wish(), "refused", "CS007", "StdConv2d"),
    "weight norm": ("proj.weight_v", (4, 3, 2, 2), "F32", Says(), Wish(), "refused", "CS008", "weight_v"),
    "packed": (KEY, (4, 3, 2, 2), "I8", config(KEY, TWO), Wish(), "refused", "CS010", "I8"),
    "no elements": (KEY, (0, 3, 2, 2), "F32", config(KEY, TWO), Wish(), "refused", "CS018", "no elements"),
    "does not divide": (KEY, (4, 13), "F32", config(KEY, TWO, LINEAR), CONV, "refused", "CS014", "13 inputs"),
    "embedding": (KEY, (4, 3, 2), "F32", config(KEY, Geometry.plain((2,), (2,)), "embedding"), Wish(), "refused", "CS015", "embedding"),
    "weak": (KEY, (4, 3, 2, 2), "F32", config(KEY, TWO), Wish(require=Level.MODEL), "refused", "CS017", "evidence is config, --require-evidence asks model"),
    "no evidence": (KEY, (4, 3, 2, 2), "F32", Says(), Wish(), "undecided", None, "no evidence of its stride"),
    "form only": (KEY, (4, 3, 2, 2), "F32", config(KEY, None), Wish(), "undecided", None, "stride is unknown"),
    "a conv is said to be a Linear": (KEY, (4, 3, 2, 2), "F32", config(KEY, TWO, LINEAR), Wish(), "undecided", None, "stride is unknown"),
    "matrix, no evidence": (KEY, (4, 12), "F32", Says(), CONV, "undecided", None, "no evidence that it is a Linear"),
    "Linear, no input shape": (KEY, (4, 12), "F32", config(KEY, None, LINEAR), CONV, "undecided", None, "shape of its input"),
    "matrix said to be a conv": (KEY, (4, 12), "F32", config(KEY, TWO), CONV, "undecided", None, "says conv2d, but the weight is a matrix"),
    "conv, to conv": (KEY, (4, 3, 2, 2), "F32", config(KEY, TWO), CONV, "already", None, "already conv2d"),
    "a conv is said to be a Linear, to conv": (KEY, (4, 3, 2, 2), "F32", config(KEY, TWO, LINEAR), CONV, "already", None, "already conv2d"),
}  # fmt: skip


@pytest.mark.parametrize("row", VERDICTS.values(), ids=VERDICTS)
def test_verdict(row: Row) -> None:
    key, shape, dtype, says, wish, verdict, code, reason = row
    layer = only_layer(header({key: shape}, dtype=dtype), says, wish=wish)
    assert (layer.verdict.value, layer.code) == (verdict, code)
    assert reason in layer.reason
    assert (layer.rewrite is not None) is (verdict == "eligible")
    assert bool(layer.hint) is (verdict == "undecided")
    assert (layer.key, layer.weight_shape, layer.dtype) == (key, shape, dtype)


def test_every_verdict_has_a_case() -> None:
    assert {row[5] for row in VERDICTS.values()} == set(Verdict)


def test_what_is_no_candidate_is_not_listed() -> None:
    shapes = {"fc.weight": (4, 4), "norm.weight": (4,), "pos": (1, 2, 3), "a.running": (1, 1, 1, 1),
              "deep.weight": (1, 1, 1, 1, 1, 1), "w_weight": (1, 1, 1, 1)}  # fmt: skip
    assert plan(header(shapes)).layers == ()
    assert [layer.key for layer in plan(header(shapes), wish=CONV).layers] == ["fc.weight"]


def test_layers_stand_in_natural_order() -> None:
    keys = ["b.10.weight", "b.9.weight", "a" + "1" * 5000 + ".weight", "B.weight"]
    layers = plan(header(dict.fromkeys(keys, (1, 1, 1)))).layers
    assert [layer.key[:3] for layer in layers] == ["B.w", "a11", "b.9", "b.1"]


@pytest.mark.parametrize(
    ("shapes", "bias"),
    [
        ({"a.weight": (1, 1, 1), "a.bias": (1,)}, True),
        ({"a.weight": (1, 1, 1), "b.bias": (1,), "bias": (1,)}, False),
        ({"weight": (1, 1, 1), "bias": (1,)}, True),
        ({".a.weight": (1, 1, 1), "a.bias": (1,)}, False),
    ],
)
def test_bias(shapes: dict[str, Shape], *, bias: bool) -> None:
    assert only_layer(header(shapes)).bias is bias


@pytest.mark.parametrize(
    ("shape", "hint"),
    [
        ((4, 3, 16, 16), "--geometry proj=k16x16,s16x16,p0,d1,g1"),
        ((4, 3, 2, 14, 14), "--geometry proj=k2x14x14,s2x14x14,p0,d1,g1"),
        ((4, 3, 5), "--geometry proj=k5,s5,p0,d1,g1"),
    ],
)
def test_golden_hint(shape: Shape, hint: str) -> None:
    assert only_layer(header({KEY: shape})).hint == hint


@given(NAMES)
def test_the_hint_can_be_pasted(module: str) -> None:
    layer = only_layer(header({f"{module}.weight": (4, 3, 2, 14, 14), "other.weight": (4, 3)}))
    option, value = shlex.split(layer.hint)
    pattern, _, fields = value.rpartition("=")
    assert option == "--geometry"
    assert fnmatchcase(module, pattern)
    assert not fnmatchcase(f"{module}x", pattern)
    kernel, stride, *rest = fields.split(",")
    assert (kernel[0], stride[0], rest) == ("k", "s", ["p0", "d1", "g1"])
    assert parse_sizes(kernel[1:]) == parse_sizes(stride[1:]) == (2, 14, 14)


def test_the_hint_of_a_linear() -> None:
    layer = only_layer(header({"head[0].weight": (4, 12)}), wish=CONV)
    assert shlex.split(layer.hint) == ["--input-shape", "head[[]0]=CxHxW"]
