"""What each option of `scan` and `swap` does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import convsurgeon as cs
from convsurgeon.errors import UsageError
from tests.cli_helpers import STATED, f32, invoke, listing, model_file, read, write

BOTH = ["embed.proj=s2", "point=s1"]


def file_of_two(folder: Path) -> Path:
    tensors = {"embed.proj.weight": f32((8, 3, 2, 2)), "point.weight": f32((4, 8, 1, 1))}
    return write(folder / "model.safetensors", tensors)


CHOSEN: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["embed.proj", "point"]),
    ({"only": "patchify"}, ["embed.proj"]),
    ({"only": "pointwise"}, ["point"]),
    ({"layers": ["em*"]}, ["embed.proj"]),
    ({"layers": ["em*", "point"]}, ["embed.proj", "point"]),
    ({"exclude": ["embed.*"]}, ["point"]),
    ({"layers": ["*"], "exclude": ["point"]}, ["embed.proj"]),
]


@pytest.mark.parametrize(("options", "modules"), CHOSEN, ids=str)
def test_which_layers(options: dict[str, Any], modules: list[str], tmp_path: Path) -> None:
    report = cs.swap(file_of_two(tmp_path), verify="bits", geometry=BOTH, **options)
    plan = report.files[0].plan
    assert {layer.module for layer in plan.rewrites} == set(modules)
    assert {layer.verdict.value for layer in plan.layers} == {"eligible"}
    shapes = {
        name: len(t.shape) for name, t in read(tmp_path / "model.linear.safetensors")[0].items()
    }
    assert {name.removesuffix(".weight") for name, rank in shapes.items() if rank == 2} == set(
        modules
    )


@pytest.mark.parametrize("name", ["layers", "exclude", "geometry", "input_shape"])
def test_a_text_is_no_list_of_texts(name: str, tmp_path: Path) -> None:
    """Of `layers="point*"` the letter `*` alone would choose every layer."""
    path = file_of_two(tmp_path)
    before = listing(tmp_path)
    options: Any = {"geometry": BOTH, "to": "conv" if name == "input_shape" else "linear"}
    options[name] = "point*"
    with pytest.raises(UsageError, match="it is a list of texts") as caught:
        cs.swap(path, **options)
    assert (caught.value.where, caught.value.hint) == (name, f"write {name}=['point*']")
    assert listing(tmp_path) == before


def test_other_texts_that_are_no_lists(tmp_path: Path) -> None:
    path = file_of_two(tmp_path)
    with pytest.raises(UsageError, match="it is a list of texts"):
        cs.scan(path, explain="point")
    with pytest.raises(UsageError, match="it is a list of texts"):
        cs.verify(path, path, input="1x3x8x8", model="m.py:f")


def test_a_model_is_named_and_not_given(tmp_path: Path) -> None:
    path = file_of_two(tmp_path)
    model: Any = object()
    for function in (cs.scan, cs.swap):
        with pytest.raises(UsageError, match=r"--model: a object is no text.*file\.py:function"):
            function(path, model=model)


def test_a_keyword_that_there_is_not(tmp_path: Path) -> None:
    """Left unread, a slip would be no wish at all: the strictest pipeline would infer."""
    path: Any = file_of_two(tmp_path)
    before = listing(tmp_path)
    slip: Any = {"require_evidense": "user"}
    calls: list[Callable[[], object]] = [
        lambda: cs.scan(path, **slip),
        lambda: cs.swap(path, geometry=BOTH, **slip),
        lambda: cs.verify(path, path, **slip),
        lambda: cs.bench(path, geometry=BOTH, **slip),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="there is no such keyword") as caught:
            call()
        assert caught.value.where == "require_evidense"
        assert caught.value.hint == "did you mean require_evidence?"
    slip = {"dryrun": True}
    with pytest.raises(UsageError, match="there is no such keyword"):
        cs.swap(path, geometry=BOTH, **slip)
    with pytest.raises(UsageError, match="there is no such keyword"):
        cs.swap_module(torch.nn.Conv2d(3, 8, 2, 2), **slip)
    assert listing(tmp_path) == before


@pytest.mark.parametrize(("layout", "moves"), [("c p1 p2", False), ("p1 p2 c", True)])
def test_layout(layout: str, moves: bool, tmp_path: Path) -> None:
    path = model_file(tmp_path / "model.safetensors")
    report = cs.swap(path, geometry=STATED, layout=layout)
    (layer,) = report.files[0].plan.rewrites
    assert layer.rewrite is not None
    assert layer.rewrite.arrangement.moves_bytes is moves
    before = read(path)[0]["embed.proj.weight"].data
    after = read(tmp_path / "model.linear.safetensors")[0]["embed.proj.weight"].data
    assert (before != after) is moves
    assert sorted(before[i : i + 4] for i in range(0, len(before), 4)) == sorted(
        after[i : i + 4] for i in range(0, len(after), 4)
    )


@pytest.mark.parametrize(
    ("level", "verdict", "code"),
    [
        ("fingerprint", "eligible", None),
        ("config", "eligible", None),
        ("model", "refused", "CS017"),
    ],
)
def test_require_evidence_of_a_config(
    level: str, verdict: str, code: str | None, tmp_path: Path
) -> None:
    vit = {"patch_embed.proj.weight": f32((64, 1, 2, 2))}
    path = write(tmp_path / "model.safetensors", vit, {"format": "pt"})
    config = {"model_type": "vit_digits", "patch_size": 2, "num_channels": 1, "hidden_size": 64}
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["VitDigits"], **config}))
    (layer,) = cs.scan(path, require_evidence=level).files[0].layers
    assert (layer.verdict.value, layer.code) == (verdict, code)
    assert layer.evidence is not None
    assert layer.evidence[0] == "config"


def test_a_model_as_evidence(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\ndef build():\n    print('noise')\n"
        "    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 2, stride=2), torch.nn.Conv2d(8, 4, 3))\n"
    )
    tensors = {"0.weight": f32((8, 3, 2, 2)), "0.bias": f32((8,)), "1.weight": f32((4, 8, 3, 3))}
    path = write(tmp_path / "model.safetensors", tensors)
    ran = invoke("swap", path, "--model", f"{tmp_path / 'net.py'}:build", "--json")
    layers = json.loads(ran.out)["files"][0]["layers"]
    assert [(v["module"], v["verdict"], v["code"]) for v in layers] == [
        ("0", "eligible", None),
        ("1", "refused", "CS001"),
    ]
    assert "noise" in ran.err


def test_strict_counts_undecided_layers(tmp_path: Path) -> None:
    path = model_file(tmp_path / "model.safetensors")
    loose = invoke("swap", path, "--geometry", STATED[0])
    strict = invoke("swap", path, "--geometry", STATED[0], "--strict")
    assert (loose.code, strict.code) == (0, 4)
    assert invoke("scan", path, "--strict").code == 4
    decided = invoke("swap", path, "--geometry", STATED[0], "--geometry", "stem=s1", "--strict")
    assert decided.code == 0


def test_verify_bits_leaves_the_function_out(tmp_path: Path) -> None:
    path = model_file(tmp_path / "model.safetensors")
    (verdict,) = cs.swap(path, verify="bits", geometry=STATED).files[0].verdicts
    (layer,) = verdict.layers
    assert (layer.bits.equal, layer.function, layer.floats) == (True, None, None)
    (verdict,) = cs.swap(path, geometry=STATED).files[0].verdicts
    assert verdict.layers[0].function is not None


def test_to_conv_by_both_methods(tmp_path: Path) -> None:
    path = write(tmp_path / "fc.safetensors", {"fc.weight": f32((4, 12))})
    cs.swap(path, tmp_path / "k.safetensors", to="conv", input_shape=["fc=3x2x2"])
    cs.swap(path, tmp_path / "p.safetensors", to="conv", method="1x1", layers=["fc"])
    assert read(tmp_path / "k.safetensors")[0]["fc.weight"].shape == (4, 3, 2, 2)
    assert read(tmp_path / "p.safetensors")[0]["fc.weight"].shape == (4, 12, 1, 1)


def test_progress_is_told_to_the_end(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    path = model_file(tmp_path / "model.safetensors")
    cs.swap(path, geometry=STATED, progress=lambda *step: told.append(step))
    written = [step for step in told if step[0] == "write model.linear.safetensors"]
    assert (
        written[-1][1] == written[-1][2] == (tmp_path / "model.linear.safetensors").stat().st_size
    )


def test_no_path_is_wrong_usage() -> None:
    with pytest.raises(cs.ConvsurgeonError, match="CS090"):
        cs.swap([])
