"""Plans as JSON: golden, and back again."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsurgeon.evidence import Level, Statement
from convsurgeon.geometry import Geometry
from convsurgeon.plan import Failure, FilePlan, Plan, Wish
from convsurgeon.rearrangement import LAYOUTS
from tests.plans import SIXTEEN, Says, config, header, plan, swapped
from tests.strategies import geometries

VIT = header(
    {"embed.proj.weight": (8, 3, 16, 16), "embed.proj.bias": (8,), "norm.weight": (8,)},
    {"format": "pt"},
)
GOLDEN = {
    "path": "model.safetensors",
    "tensors": 3,
    "bytes": 1000,
    "metadata": {"format": "pt"},
    "layers": [
        {
            "module": "embed.proj",
            "key": "embed.proj.weight",
            "file": "model-0.safetensors",
            "form": "conv2d",
            "weight_shape": [8, 3, 16, 16],
            "dtype": "F32",
            "bias": True,
            "geometry": {
                "kernel": [16, 16],
                "stride": [16, 16],
                "padding": [0, 0],
                "dilation": [1, 1],
                "groups": 1,
            },
            "evidence": {"level": "config", "source": "the config"},
            "verdict": "eligible",
            "code": None,
            "reason": "stride equals kernel",
            "rewrite": {
                "rule": "patchify",
                "to": "linear",
                "weight_shape": [8, 768],
                "layout": "c p1 p2",
                "moves_bytes": False,
                "why": "stride equals kernel",
                "child_keys": False,
            },
            "hint": "",
        }
    ],
    "notes": ["a note"],
}


def test_golden() -> None:
    assert plan(VIT, config("embed.proj.weight", SIXTEEN)).to_json() == GOLDEN


def test_golden_is_read_back() -> None:
    assert FilePlan.from_json(GOLDEN) == plan(VIT, config("embed.proj.weight", SIXTEEN))


def test_the_order_of_keys_in_json_does_not_matter() -> None:
    swapped_keys = json.loads(json.dumps(GOLDEN), object_pairs_hook=lambda p: dict(reversed(p)))
    assert list(swapped_keys["layers"][0]["evidence"]) == ["source", "level"]
    assert FilePlan.from_json(swapped_keys) == FilePlan.from_json(GOLDEN)


def test_whole_plan_golden() -> None:
    failure = Failure("broken.safetensors", "HeaderError", "CS040", "invalid")
    whole = Plan((FilePlan.from_json(GOLDEN),), (failure,))
    document = {
        "schema": "convsurgeon.scan/1",
        "files": [GOLDEN],
        "errors": [
            {"path": "broken.safetensors", "error": "HeaderError", "code": "CS040", "message": "invalid"}
        ],
    }  # fmt: skip
    assert whole.to_json() == document
    assert Plan.from_json(document) == whole


@pytest.mark.parametrize("schema", [None, "convsurgeon.scan/2", "convsurgeon.swap/1"])
def test_another_schema_is_refused(schema: str | None) -> None:
    with pytest.raises(ValueError, match=r"is not convsurgeon\.scan/1"):
        Plan.from_json({"schema": schema, "files": [], "errors": []})


@given(geometries(), st.sampled_from(LAYOUTS), st.sampled_from(list(Level)[1:]), st.booleans())
def test_round_trip(g: Geometry, layout: str, level: Level, to_conv: bool) -> None:
    shapes = {
        "a.conv.weight": (2, 4, *g.kernel),
        "b.fc.weight": (3, 4 * g.window),
        "c.conv.weight": (2, 4, 3, 3),
        "d.conv.weight_v": (2, 4, 3, 3),
    }
    conv = Statement(level, "somebody", f"conv{g.ndim}d", g)
    says = Says({"a.conv.weight": conv, "b.fc.weight": Statement(level, "somebody", "linear", g)})
    wish = Wish("conv" if to_conv else "linear", layout)
    made = Plan((plan(header(shapes), says, wish=wish), plan(swapped(), wish=wish)))
    text = json.dumps(made.to_json())
    assert Plan.from_json(json.loads(text)) == made
    assert json.dumps(Plan.from_json(json.loads(text)).to_json()) == text
