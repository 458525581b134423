"""`swap --fully-convolutional`, and the inputs of Linears read from a traced model."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from typer.testing import CliRunner

import convsurgeon as cs
from convsurgeon.cli import app
from tests.dense_cases import FLATTENED, Styled, outputs

SAMPLE = Path(__file__).parent.parent / "sample_checkpoints" / "lenet_digits"
SPEC = f"{SAMPLE / 'model.py'}:build"
HEAD = {
    "classifier.1.weight": [120, 16, 4, 4],
    "classifier.3.weight": [84, 120, 1, 1],
    "classifier.5.weight": [10, 84, 1, 1],
}
NETS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, between):
        super().__init__()
        self.conv, self.between = nn.Conv2d(1, 2, 3), between
        self.fc = nn.Linear(2 * 4 * 3, 5)

    def forward(self, x):
        return self.fc(self.between(self.conv(x)))


class Turned(nn.Module):
    def forward(self, x):
        return x.permute(0, 3, 2, 1).reshape(x.size(0), -1)


def plain():
    return Net(nn.Flatten())


def normed():
    return Net(nn.Sequential(nn.Flatten(), nn.LayerNorm(24)))


def turned():
    return Net(Turned())


def pooled():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
"""


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """The sample without its config.json, so that nothing else knows the inputs."""
    path = tmp_path / "digits.safetensors"
    path.write_bytes((SAMPLE / "model.safetensors").read_bytes())
    return path


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    """Code of models, with a checkpoint of each beside it."""
    path = tmp_path / "nets.py"
    path.write_text(NETS, encoding="utf-8")
    made = runpy.run_path(str(path))
    for name in ("plain", "normed", "turned", "pooled"):
        state = {key: one.clone() for key, one in made[name]().state_dict().items()}
        save_file(state, tmp_path / f"{name}.safetensors")
    return path


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    return result.exit_code, result.output


def document(*arguments: object) -> tuple[int, Any]:
    result = CliRunner().invoke(app, [*(str(one) for one in arguments), "--json"])
    return result.exit_code, json.loads(result.stdout)


def shapes(path: Path) -> dict[str, list[int]]:
    with safe_open(path, "pt") as file:
        return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118


def build() -> nn.Module:
    """The sample's model, without its weights."""
    found: nn.Module = runpy.run_path(str(SAMPLE / "model.py"))["build"]()
    return found


ASKED = ("--fully-convolutional", "--model", SPEC, "--input", "1x1x28x28")


def test_a_file_for_larger_images(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    code, text = run("swap", digits, "-o", out, *ASKED)
    assert code == 0, text
    assert "one cell at 28×28, one more every 4×4 pixels; each sees 28×28" in text
    assert "each the original network on its crop" in text
    before, after = shapes(digits), shapes(out)
    assert list(after) == list(before)
    assert {name: after[name] for name in after if after[name] != before[name]} == HEAD

    report = cs.fully_convolutional(build(), torch.zeros(1, 1, 28, 28), verify="none")
    cs.load(report.model, out)
    model = build()
    model.load_state_dict(load_file(digits))
    found = outputs(report.model.eval(), 1, 1, 28, 28)
    torch.testing.assert_close(found.flatten(1), outputs(model.eval(), 1, 1, 28, 28))
    assert outputs(report.model, 1, 1, 40, 36).shape == (1, 10, 4, 3)

    assert run("verify", digits, out)[0] == 0
    assert run("restore", out, "-o", tmp_path / "again.safetensors")[0] == 0
    assert (tmp_path / "again.safetensors").read_bytes() == digits.read_bytes()
    code, text = run("swap", out, "-o", tmp_path / "twice.safetensors", *ASKED)
    assert (code, "skipped: already in the target form" in text) == (0, True)


def test_either_file_loads_into_the_network(digits: Path) -> None:
    report = cs.fully_convolutional(build(), torch.zeros(1, 1, 28, 28), verify="none")
    cs.load(report.model, digits)
    weight = report.model.state_dict()["classifier.1.weight"]
    assert torch.equal(weight.flatten(1), load_file(digits)["classifier.1.weight"])


def test_the_document_holds_the_plan_and_the_verdict(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    code, found = document("swap", digits, "-o", out, *ASKED)
    assert code == 0
    network = found["files"][0]["fully_convolutional"]
    assert network["possible"]
    assert network["stride"] == [4, 4]
    assert [s["weight_shape"] for s in network["steps"] if s["action"] == "conv"] == [
        *HEAD.values()
    ]
    assert network["verdict"]["equivalent"]
    assert [row["cells"] for row in network["verdict"]["cells"]] == [[1, 1], [3, 2], [2, 3]]


def test_a_dry_run_prints_the_plan_and_writes_nothing(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    code, text = run("swap", digits, "-o", out, *ASKED, "--dry-run")
    assert code == 0
    assert "classifier.1: Linear 256 to 120 -> Conv2d 16 to 120, kernel 4×4" in text
    assert "cells:" not in text
    assert not out.exists()


def test_bits_leave_the_network_unproved(digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    code, found = document("swap", digits, "-o", out, *ASKED, "--verify", "bits")
    assert code == 0
    assert found["files"][0]["fully_convolutional"]["verdict"] is None


def test_a_checkpoint_of_another_model_is_refused(nets: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    code, text = run("swap", tmp_path / "plain.safetensors", "-o", out, *ASKED)
    assert code == 3
    assert not out.exists()
    assert "nothing is eligible" in text


@pytest.mark.parametrize(
    ("net", "code", "why"),
    [
        ("normed", "CS053", "a LayerNorm stands between the flattening and the Linear"),
        ("turned", "CS053", "its order is not channel, height, width"),
        ("pooled", "CS029", "pool='behind' makes a class-activation map"),
    ],
)
def test_what_cannot_become_fully_convolutional(
    net: str, code: str, why: str, nets: Path, tmp_path: Path
) -> None:
    path, out = tmp_path / f"{net}.safetensors", tmp_path / "out.safetensors"
    asked = ("--fully-convolutional", "--model", f"{nets}:{net}", "--input", "1x1x6x5")
    exit_code, found = document("swap", path, "-o", out, *asked)
    assert exit_code == 3
    assert (found["errors"][0]["code"], why in found["errors"][0]["message"]) == (code, True)
    assert not out.exists()


def test_a_pool_moves_behind(nets: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "pooled.safetensors", tmp_path / "out.safetensors"
    asked = ("--fully-convolutional", "--model", f"{nets}:pooled", "--input", "1x1x6x5")
    code, text = run("swap", path, "-o", out, *asked, "--pool", "behind")
    assert code == 0, text
    assert "mean over the map" in text
    assert shapes(out)["3.weight"] == [3, 4, 1, 1]


def test_a_traced_model_is_evidence(nets: Path, tmp_path: Path) -> None:
    path, out = tmp_path / "plain.safetensors", tmp_path / "out.safetensors"
    asked = ("--to", "conv", "--model", f"{nets}:plain")
    _, found = document("scan", path, *asked)  # without an input nothing states the split
    assert {one["module"]: one["verdict"] for one in found["files"][0]["layers"]}[
        "fc"
    ] == "undecided"
    code, found = document("swap", path, "-o", out, *asked, "--input", "1x1x6x5")
    assert code == 0
    layer = next(one for one in found["files"][0]["layers"] if one["module"] == "fc")
    assert layer["evidence"]["level"] == "model"
    assert layer["evidence"]["source"].endswith("nets.py:plain, traced at 1×6×5")
    assert layer["rewrite"]["rule"] == "full-kernel"
    assert shapes(out)["fc.weight"] == [5, 2, 4, 3]


@pytest.mark.parametrize("net", ["normed", "turned"])
def test_another_order_is_refused_as_evidence(net: str, nets: Path, tmp_path: Path) -> None:
    path = tmp_path / f"{net}.safetensors"
    asked = ("--to", "conv", "--model", f"{nets}:{net}", "--input", "1x1x6x5")
    code, found = document("scan", path, *asked)
    assert code == 0
    layer = next(one for one in found["files"][0]["layers"] if one["module"] == "fc")
    assert (layer["verdict"], layer["code"]) == ("refused", "CS053")


def test_the_user_goes_before_the_trace(nets: Path, tmp_path: Path) -> None:
    path = tmp_path / "plain.safetensors"
    asked = ("--to", "conv", "--model", f"{nets}:plain", "--input", "1x1x6x5")
    _, found = document("scan", path, *asked, "--input-shape", "fc=24x1x1")
    layer = next(one for one in found["files"][0]["layers"] if one["module"] == "fc")
    assert layer["evidence"]["level"] == "user"


WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "no model": (("--fully-convolutional",), "it needs --model SPEC and --input SHAPE"),
    "no input": (("--fully-convolutional", "--model", SPEC), "it needs --model SPEC and --input"),
    "a target": ((*ASKED, "--to", "linear"), "leave --to away"),
    "layers": ((*ASKED, "--layer", "classifier.*"), "leave --layer away"),
    "an input shape": ((*ASKED, "--input-shape", "a=1x2x2"), "leave --input-shape away"),
    "an unknown pool": ((*ASKED, "--pool", "around"), "'around' is none of refuse, behind"),
    "a pool alone": (("--pool", "behind"), "it goes with --fully-convolutional"),
    "an input alone": (("--input", "1x1x28x28"), "it goes with --to conv"),
    "an input without model": (("--to", "conv", "--input", "1x1x28x28"), "it needs --model SPEC"),
    "another order": (
        ("--to", "conv", "--layout", "p1 p2 c", "--model", SPEC, "--input", "1x1x28x28"),
        "a forward of torch flattens c p1 p2",
    ),
    "no image": (
        ("--to", "conv", "--model", SPEC, "--input", "1x28"),
        "is no batch of images",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_options_that_do_not_go_together(wrong: str, digits: Path) -> None:
    arguments, why = WRONG[wrong]
    code, found = document("swap", digits, "--dry-run", *arguments)
    assert code == 2
    assert why in found["errors"][0]["message"]


def test_swap_module_reads_a_live_model() -> None:
    model = Styled(FLATTENED["view of x.size(0)"]).eval()
    before = outputs(model, 2, *Styled.shape[1:])
    plan = cs.swap_module(model, to="conv", example_input=torch.zeros(Styled.shape))
    kernels = {
        row.module: row.rewrite.weight_shape for row in plan.files[0].rewrites if row.rewrite
    }
    assert kernels == {"fc1": (8, 6, 6, 4), "fc2": (3, 8, 1, 1)}
    torch.testing.assert_close(outputs(model, 2, *Styled.shape[1:]), before)


def test_swap_module_refuses_an_example_without_to_conv() -> None:
    with pytest.raises(cs.ConvsurgeonError, match="it goes with to='conv'"):
        cs.swap_module(Styled(FLATTENED["flatten"]), example_input=torch.zeros(Styled.shape))
