"""`bench`, as a function and as a command: what is timed, what is said, how it ends."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
import torch
from torch import nn

import convsurgeon as cs
from convsurgeon.cli import progress as progress_module
from convsurgeon.errors import ModelError, NotEquivalentError, NothingToDoError, UsageError
from convsurgeon.timing import measure
from convsurgeon.timing.forms import FORMS, Form
from tests.cli_helpers import NASTY, Tensor, document, f32, invoke, write
from tests.test_cli_progress import Terminal
from tests.timing_cases import conv1d_file

SAMPLES = Path(__file__).parent.parent / "sample_checkpoints"
VIT = SAMPLES / "vit_digits"
CLIP = SAMPLES / "clip3d_digits"
QUICK: dict[str, Any] = {"rounds": 1, "seconds": 1e-6}
FAST = ("--rounds", "1", "--device", "cpu")
MODEL = """
import torch
def build():
    model = torch.nn.Module()
    model.patch = torch.nn.Conv2d(3, 8, 4, stride=4, bias=False)
    model.stem = torch.nn.Conv2d(3, 8, 3)
    model.up = torch.nn.ConvTranspose2d(3, 8, 2, stride=2)
    model.downs = torch.nn.ModuleList(torch.nn.Conv2d(8, 8, 2, stride=2) for _ in range(3))
    return model
"""


def test_a_checkpoint() -> None:
    report = cs.bench(VIT, device="cpu", **QUICK)
    assert report.exit_code() == 0
    (file,) = report.files
    (layer,) = file.layers
    assert file.path == str(VIT / "model.safetensors")
    assert layer.modules == ("patch_embed.proj",)
    assert (layer.form, layer.weight_shape, layer.bias) == ("conv2d", (64, 1, 2, 2), True)
    assert layer.evidence == ("config", "config.json: patch_size 2")
    assert (layer.dtype, layer.input_shape) == ("float32", (1, 1, 8, 8))
    assert layer.size_source == "config.json: image_size"
    assert [(t.form, t.output) for t in layer.timings] == [
        *((form, output) for form in FORMS for output in ("map", "tokens") if form != "product"),
        ("product", "tokens"),
    ]
    assert all(t.seconds and t.seconds.median > 0 and t.peak_bytes for t in layer.timings)
    assert (report.environment.torch, report.environment.device) == (torch.__version__, "cpu")


def test_options_reach_the_measurement() -> None:
    given = {"batch": 3, "dtype": "bfloat16", "input_size": "9x10", "backward": True, "rounds": 6}
    report = cs.bench(VIT, device="cpu", seconds=1e-6, **given)  # type: ignore[arg-type]
    (layer,) = report.files[0].layers
    assert (layer.dtype, layer.input_shape) == ("bfloat16", (3, 1, 9, 10))
    assert layer.size_source == "--input-size"
    assert {t.passes for t in layer.timings} == {"forward", "forward+backward"}
    assert {t.seconds.rounds for t in layer.timings if t.seconds} == {5}
    assert {advice.form for advice in layer.advice} <= {"conv", "channels-last", "gemm", "linear"}
    assert report.setup.to_json() == {
        "device": "cpu", "batch": 3, "rounds": 6, "seconds": 1e-6, "dtype": "bfloat16",
        "backward": True, "compiled": False,
    }  # fmt: skip


def test_a_model_without_a_file(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(MODEL)
    spec = f"{tmp_path / 'net.py'}:build"
    (file,) = cs.bench(model=spec, device="cpu", **QUICK).files
    assert file.path == spec
    assert {layer.modules: (layer.bias, layer.input_shape) for layer in file.layers} == {
        ("patch",): (False, (1, 3, 64, 64)),
        ("downs.0", "downs.1", "downs.2"): (True, (1, 8, 32, 32)),
    }
    assert {layer.evidence[0] for layer in file.layers} == {"model"}


def test_a_model_that_is_one_layer(tmp_path: Path) -> None:
    line = "import torch\ndef build():\n    return torch.nn.Conv3d(1, 2, 2, stride=2)\n"
    (tmp_path / "one.py").write_text(line)
    (file,) = cs.bench(model=f"{tmp_path / 'one.py'}:build", device="cpu", **QUICK).files
    assert [layer.modules for layer in file.layers] == [("",)]
    assert file.layers[0].input_shape == (1, 1, 2, 32, 32)


def test_choices_hold_for_a_model_too(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(MODEL)
    spec = f"{tmp_path / 'net.py'}:build"
    (file,) = cs.bench(model=spec, device="cpu", layers=["pat*"], **QUICK).files
    assert [layer.modules for layer in file.layers] == [("patch",)]
    with pytest.raises(NothingToDoError, match="refused"):
        cs.bench(model=spec, device="cpu", layers=["stem"], **QUICK)


def test_video_is_sized_by_its_config() -> None:
    (layer,) = cs.bench(CLIP, device="cpu", **QUICK).files[0].layers
    assert (layer.form, layer.input_shape) == ("conv3d", (1, 1, 6, 24, 24))


def test_a_file_with_undecided_layers(tmp_path: Path) -> None:
    path = conv1d_file(tmp_path / "m.safetensors")
    (file,) = cs.bench(path, geometry=["proj=s2"], device="cpu", **QUICK).files
    assert file.notes == ("1 undecided: convsurgeon scan says what would decide each",)
    missing = [t for t in file.layers[0].timings if t.seconds is None]
    assert {t.form for t in missing} == {"channels-last"}


def test_eight_bits_are_timed_in_another_type(tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors", {"p.weight": Tensor("F8_E4M3", (4, 3, 2), bytes(24))})
    (file,) = cs.bench(path, geometry=["p=s2"], device="cpu", **QUICK).files
    assert file.layers[0].dtype == "bfloat16"
    assert "p is stored in F8_E4M3, timed in bfloat16" in file.notes[0]
    (asked,) = cs.bench(path, geometry=["p=s2"], device="cpu", dtype="float32", **QUICK).files
    assert (asked.layers[0].dtype, asked.notes) == ("float32", ())


def test_a_folder_in_which_a_file_is_broken(tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors", {"p.weight": f32((4, 3, 2, 2))})
    write(tmp_path / "b.safetensors", {"q.weight": f32((4, 3, 3, 3))})
    (tmp_path / "c.safetensors").write_bytes(b"")
    report = cs.bench(tmp_path, geometry=["p=s2"], device="cpu", **QUICK)
    assert [Path(file.path).name for file in report.files] == ["a.safetensors"]
    assert [(Path(e.path).name, e.code) for e in report.errors] == [("c.safetensors", "CS031")]
    assert report.exit_code() == 4
    assert invoke("bench", tmp_path, "--geometry", "p=s2", *FAST).code == 4


def test_progress_is_told(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(MODEL)
    told: list[tuple[str, int, int]] = []
    cs.bench(
        model=f"{tmp_path / 'net.py'}:build",
        device="cpu",
        progress=lambda *one: told.append(one),
        **QUICK,
    )
    assert told == [("downs.0", 0, 2), ("patch", 1, 2)]


def test_the_bar_counts_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(progress_module, "_PATIENCE", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    with progress_module.progress(quiet=False, unit="layers") as bar:
        bar("patch\x1b]0;title", 1, 4)
    assert "1/4" in stream.getvalue()
    assert "\x1b]0;title" not in stream.getvalue()


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"device": "abacus"}, "--device"),
    ({"dtype": "int8"}, "--dtype"),
    ({"dtype": "float8_e5m2"}, "--dtype"),
    ({"batch": 0}, "--batch"),
    ({"rounds": -1}, "--rounds"),
    ({"rounds": "3"}, "--rounds"),
    ({"batch": 1.5}, "--batch"),
    ({"input_size": (8, 8)}, "--input-size"),
    ({"seconds": 0.0}, "--seconds"),
    ({"seconds": float("nan")}, "--seconds"),
    ({"input_size": "big"}, "--input-size"),
    ({"input_size": "1x1"}, "--input-size"),
    ({"input_size": "9"}, "--input-size"),
    ({"to": "conv"}, "--to"),
]


@pytest.mark.parametrize(("choice", "option"), WRONG, ids=str)
def test_choices_that_cannot_be_understood(choice: dict[str, Any], option: str) -> None:
    with pytest.raises(UsageError) as raised:
        cs.bench(VIT, **choice)
    assert (raised.value.code, raised.value.where) == ("CS090", option)


def test_nothing_to_time(tmp_path: Path) -> None:
    with pytest.raises(NothingToDoError, match="2 refused") as raised:
        cs.bench(SAMPLES / "lenet_digits", device="cpu")
    assert raised.value.code == "CS080"
    with pytest.raises(UsageError, match="--model SPEC"):
        cs.bench(device="cpu")
    with pytest.raises(ModelError, match="no_such_file"):
        cs.bench(model="no_such_file.py:build", device="cpu")
    swapped = tmp_path / "m.safetensors"
    cs.swap(VIT / "model.safetensors", swapped, verify="bits")
    with pytest.raises(NothingToDoError, match="1 already"):
        cs.bench(swapped, device="cpu")


def test_a_form_that_computes_something_else_ends_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(conv: nn.Module, x: torch.Tensor) -> Form:
        form = FORMS["gemm"](conv, x)
        return Form(form.name, nn.Sequential(form.module, nn.Hardtanh()), x, form.outputs)

    monkeypatch.setattr(measure, "FORMS", {**FORMS, "gemm": broken})
    with pytest.raises(NotEquivalentError, match="gemm does not compute"):
        cs.bench(VIT, device="cpu", **QUICK)
    ran = invoke("bench", VIT, *FAST)
    assert (ran.code, ran.out) == (1, "")
    assert re.match(r"convsurgeon: patch_embed\.proj: gemm .* \[CS086\]; .*CS086.*\n", ran.err)


# --- the command


def test_the_command(tmp_path: Path) -> None:
    ran = invoke("bench", VIT, *FAST)
    assert (ran.code, ran.err) == (0, "")
    for text in ("patch_embed.proj", "conv2d 1 → 64", "bare product", "fewer than 5 rounds", "µs"):
        assert text in ran.out
    assert invoke("bench", VIT, *FAST, "--quiet") == (0, "", "")
    assert "convsurgeon bench [OPTIONS] [path]" in invoke("bench", "--help").out


ERRORS: list[tuple[tuple[str, ...], int, str]] = [
    ((), 2, "there is nothing to time"),
    (("missing",), 3, "there is no such file"),
    ((str(SAMPLES / "lenet_digits"),), 3, "CS080"),
    ((str(VIT), "--device", "abacus"), 2, "cpu, cuda, mps"),
    ((str(VIT), "--batch", "many"), 2, "--batch"),
    ((str(VIT), "--input-size", "1x1"), 2, "patch_embed.proj"),
    ((str(VIT), "--report", "r.html"), 2, ".json, .md, .svg"),
    ((str(VIT), "more"), 2, "more"),
]


@pytest.mark.parametrize(("arguments", "code", "says"), ERRORS, ids=str)
def test_errors_are_one_line(arguments: tuple[str, ...], code: int, says: str) -> None:
    ran = invoke("bench", *arguments)
    assert (ran.code, ran.out, ran.err.count("\n")) == (code, "", 1)
    assert says in ran.err
    code_, found = document("bench", *arguments)
    assert code_ == code
    assert (found["schema"], found["files"]) == ("convsurgeon.bench/1", [])
    assert len(found["errors"]) == 1


def test_the_document() -> None:
    code, found = document("bench", VIT, *FAST, "--backward")
    assert code == 0
    assert found["schema"] == "convsurgeon.bench/1"
    (layer,) = found["files"][0]["layers"]
    assert len(layer["timings"]) == 18
    assert len(layer["advice"]) == 4
    for row in layer["timings"]:
        assert row["quartiles"] == [row["median"]] * 2
        assert (row["rounds"], row["peak_bytes"] > 0, row["note"]) == (1, True, "")


@pytest.mark.parametrize("suffix", [".json", ".md", ".svg"])
def test_reports(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"report{suffix}"
    assert invoke("bench", VIT, *FAST, "--quiet", "--report", path).code == 0
    text = path.read_text("utf-8")
    assert "channels-last" in text
    if suffix == ".json":
        assert json.loads(text)["schema"] == "convsurgeon.bench/1"
    if suffix == ".svg":
        ET.fromstring(text)  # noqa: S314 - our own file


@pytest.mark.parametrize("name", NASTY)
def test_nothing_from_a_file_reaches_the_terminal_raw(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors", {f"{name}.weight": f32((2, 1, 2, 2))})
    report = tmp_path / "r.md"
    ran = invoke("bench", path, "--geometry", "*=s2", *FAST, "--report", report)
    assert ran.code == 0, ran.err
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u200b\u202e]", ran.out + ran.err)
    if name.isascii() and name.isprintable():
        assert name in ran.out
    title = next(line for line in report.read_text("utf-8").splitlines() if line[:4] == "### ")
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*_\[\]|<]", title)


def test_a_configuration_file_takes_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        tmp_path / "m.safetensors", {"p.weight": f32((2, 1, 2, 2)), "q.weight": f32((2, 1, 2, 2))}
    )
    (tmp_path / "convsurgeon.toml").write_text('geometry = ["*=s2"]\nexclude = ["q"]\n')
    monkeypatch.chdir(tmp_path)
    _, found = document("bench", "m.safetensors", *FAST)
    assert [layer["modules"] for layer in found["files"][0]["layers"]] == [["p"]]
    assert "configuration: convsurgeon.toml" in found["files"][0]["notes"][0]
    assert document("bench", "m.safetensors", *FAST, "--no-config")[0] == 3
