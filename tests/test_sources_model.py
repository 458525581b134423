"""A model's statements: live modules, names, and code that the user names."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.nn.utils import parametrizations

from convsurgeon.errors import ContradictionError, ModelError, UsageError
from convsurgeon.evidence import Level, Statement
from convsurgeon.geometry import Geometry
from convsurgeon.sources import model
from convsurgeon.sources.build import build
from convsurgeon.sources.model import ModelSpeaker

CONV = (4, 3, 2, 2)


class Own(nn.Conv2d):
    def _conv_forward(self, input: Any, weight: Any, bias: Any) -> Any:  # noqa: A002
        return super()._conv_forward(input, weight - weight.mean(), bias)


class Empty(nn.Linear):
    pass


class Conv1D(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(6, 5))


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(CONV))


def said(
    module: nn.Module, part: str = "weight", shape: tuple[int, ...] | None = None
) -> Statement | None:
    speaker = ModelSpeaker.of(nn.ModuleDict({"a": module}), "model.py:build")
    weight = getattr(module, "weight", None)
    if shape is None:
        shape = tuple(weight.shape) if isinstance(weight, torch.Tensor) else CONV
    return speaker.about(f"a.{part}", shape)


@pytest.mark.parametrize(
    ("layer", "form", "geometry"),
    [
        (nn.Conv1d(3, 4, 5, 2, 1), "conv1d", Geometry((5,), (2,), (1,), (1,))),
        (nn.Conv2d(3, 4, 2, 2), "conv2d", Geometry.plain((2, 2), (2, 2))),
        (
            nn.Conv2d(4, 8, (2, 3), (1, 2), (0, 1), (2, 1), 2),
            "conv2d",
            Geometry((2, 3), (1, 2), (0, 1), (2, 1), 2),
        ),
        (nn.Conv3d(3, 4, (2, 4, 4), (2, 4, 4)), "conv3d", Geometry.plain((2, 4, 4), (2, 4, 4))),
        (nn.Conv2d(3, 4, 2, 2, "valid"), "conv2d", Geometry.plain((2, 2), (2, 2))),
        (nn.Conv2d(3, 4, 1, 1, "same"), "conv2d", Geometry.plain((1, 1), (1, 1))),
        (
            nn.Conv2d(3, 4, 2, 2, padding_mode="reflect"),
            "conv2d",
            Geometry.plain((2, 2), (2, 2)),
        ),
        (
            nn.Conv2d(3, 4, 1, 1, "same", padding_mode="reflect"),
            "conv2d",
            Geometry.plain((1, 1), (1, 1)),
        ),
        (nn.ConvTranspose1d(3, 4, 2, 2), "conv_transpose1d", Geometry.plain((2,), (2,))),
        (nn.ConvTranspose2d(3, 4, 2, 2), "conv_transpose2d", Geometry.plain((2, 2), (2, 2))),
        (
            nn.ConvTranspose3d(4, 4, 3, 2, 1),
            "conv_transpose3d",
            Geometry((3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1)),
        ),
        (nn.Linear(3, 4), "linear", None),
        (nn.modules.linear.NonDynamicallyQuantizableLinear(3, 4), "linear", None),
    ],
)
def test_plain_layers(layer: nn.Module, form: str, geometry: Geometry | None) -> None:
    assert said(layer) == Statement(Level.MODEL, "model.py:build", form, geometry)


def test_a_layer_without_a_shape_yet() -> None:
    statement = ModelSpeaker.of(nn.LazyConv2d(4, 2, 2), "m").about("weight", CONV)
    assert statement is not None
    assert statement.refusal is not None
    assert statement.refusal.code == "CS007"


def replaced() -> nn.Module:
    layer = nn.Conv2d(3, 4, 2, 2)
    vars(layer)["forward"] = torch.relu
    return layer


@pytest.mark.parametrize(
    ("layer", "part", "form", "code", "words"),
    [
        (nn.Conv2d(3, 4, 2, padding="same"), "weight", "conv2d", "CS013", "same"),
        (
            nn.Conv2d(3, 4, 2, 2, 1, padding_mode="circular"),
            "weight",
            "conv2d",
            "CS013",
            "circular",
        ),
        (Own(3, 4, 2, 2), "weight", "conv2d", "CS007", "Own"),
        (Empty(3, 4), "weight", "linear", "CS007", "Empty"),
        (replaced(), "weight", "conv2d", "CS007", "forward"),
        (Gate(), "weight", "conv2d", "CS007", "Gate"),
        (Conv1D(), "weight", "other", "CS015", "Conv1D"),
        (nn.Embedding(5, 6), "weight", "embedding", "CS015", "Embedding"),
        (
            parametrizations.weight_norm(nn.Conv2d(3, 4, 2, 2)),
            "parametrizations.weight.original1",
            "conv2d",
            "CS008",
            "computed",
        ),
        (
            parametrizations.weight_norm(nn.Conv2d(3, 4, 2, 2)),
            "weight",
            "conv2d",
            "CS008",
            "computed",
        ),
        (
            parametrizations.orthogonal(nn.Linear(3, 3)),
            "parametrizations.weight.original",
            "linear",
            "CS008",
            "computed",
        ),
        (nn.utils.spectral_norm(nn.Conv2d(3, 4, 2, 2)), "weight_orig", "conv2d", "CS008", "Conv2d"),
    ],
)
def test_refused_layers(layer: nn.Module, part: str, form: str, code: str, words: str) -> None:
    statement = said(layer, part)
    assert statement is not None
    assert statement.refusal is not None
    assert (statement.form, statement.geometry) == (form, None)
    assert statement.refusal.code == code
    assert words in statement.refusal.reason


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_old_weight_norm() -> None:
    layer = nn.utils.weight_norm(nn.Conv2d(3, 4, 2, 2))
    statement = said(layer, "weight_v", CONV)
    assert statement is not None
    assert statement.refusal is not None
    assert statement.refusal.code == "CS008"


@pytest.mark.parametrize("part", ["bias", "weight_v", "parametrizations.weight.original0", "x"])
def test_nothing_is_said_about_tensors_that_are_no_weight_of_the_model(part: str) -> None:
    assert said(nn.Conv2d(3, 4, 2, 2), part, (4, 1, 1, 1)) is None
    assert said(nn.LayerNorm(4)) is None


def test_the_root_may_be_a_layer() -> None:
    speaker = ModelSpeaker.of(nn.Conv2d(3, 4, 2, 2), "m")
    statement = speaker.for_names(["weight", "bias"]).about("weight", CONV)
    assert statement is not None
    assert statement.form == "conv2d"


def tied(first: nn.Module, second: nn.Module) -> ModelSpeaker:
    second.weight = first.weight
    return ModelSpeaker.of(nn.ModuleDict({"a": first, "b": second}), "m")


def codes(speaker: ModelSpeaker) -> list[str | None]:
    refusals = [layer.statement.refusal for layer in speaker.layers.values()]
    return [refusal.code if refusal else None for refusal in refusals]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (nn.Conv2d(3, 4, 2, 2), nn.Conv2d(3, 4, 2, 1), ["CS016", "CS016"]),
        (nn.Conv2d(3, 4, 2, 2), nn.Conv2d(3, 4, 2, 2), [None, None]),
        (nn.Conv2d(3, 4, 2, 2), Gate(), ["CS016", "CS007"]),
        (nn.Embedding(5, 6), nn.Linear(6, 5), ["CS015", "CS016"]),
        (nn.Linear(6, 5), nn.Linear(6, 5), [None, None]),
    ],
)
def test_one_parameter_of_two_layers(
    first: nn.Module, second: nn.Module, expected: list[str | None]
) -> None:
    assert codes(tied(first, second)) == expected


def test_the_reason_names_the_other_owner() -> None:
    refusal = tied(nn.Conv2d(3, 4, 2, 2), nn.Conv2d(3, 4, 2, 1)).layers["a"].statement.refusal
    assert refusal is not None
    assert refusal.reason == "the same tensor is b.weight, of another kind of layer"


def test_a_parameter_that_the_parent_also_uses_by_itself() -> None:
    weight = nn.Parameter(torch.zeros(5, 6))
    root = nn.ModuleDict({"a": nn.Linear(6, 5)})
    root["a"].weight = weight
    root.register_parameter("scale", weight)
    assert codes(ModelSpeaker.of(root, "m")) == ["CS016"]


def test_one_module_under_two_names() -> None:
    layer = nn.Conv2d(3, 4, 2, 2)
    speaker = ModelSpeaker.of(nn.ModuleDict({"a": layer, "b": layer}), "m")
    assert list(speaker.layers) == ["a", "b"]
    assert codes(speaker) == [None, None]


def test_another_shape_is_a_contradiction() -> None:
    with pytest.raises(ContradictionError, match=r"\[4, 3, 2, 2\].*\[4, 3, 4, 4\]") as caught:
        said(nn.Conv2d(3, 4, 2, 2), shape=(4, 3, 4, 4))
    assert caught.value.code == "CS061"
    with pytest.raises(ContradictionError):
        said(nn.Conv2d(3, 4, 2, 2), shape=(4, 11))


@pytest.mark.parametrize(
    ("layer", "shape", "form"),
    [(nn.Conv2d(3, 4, 2, 2), (4, 12), "conv2d"), (nn.Linear(12, 4), CONV, "linear")],
)
def test_what_another_tool_reshaped_is_left_to_the_plan(
    layer: nn.Module, shape: tuple[int, ...], form: str
) -> None:
    statement = said(layer, shape=shape)
    assert statement is not None
    assert statement.form == form


def net(prefix: str = "") -> ModelSpeaker:
    root: nn.Module = nn.ModuleDict({"a": nn.Conv2d(3, 4, 2, 2), "b": nn.Linear(3, 4)})
    for part in reversed(prefix.split(".")[:-1]):
        root = nn.ModuleDict({part: root})
    return ModelSpeaker.of(root, "m")


FILE = ["a.weight", "a.bias", "b.weight", "b.bias"]


@pytest.mark.parametrize(
    ("model_prefix", "file_prefix", "names", "found"),
    [
        ("", "", FILE, True),
        ("", "module.", FILE, True),
        ("", "_orig_mod.", FILE, True),
        ("", "model.", FILE, True),
        ("", "module._orig_mod.", FILE, True),
        ("module.", "", FILE, True),
        ("model.", "", FILE, True),
        ("", "module.", FILE[:2], True),  # a tied or frozen part is not in the file
        ("", "module.", [*FILE, "extra"], True),  # the file has a buffer more
        ("", "module.", ["a.weight", "c.weight"], False),  # both sides have names of their own
        ("", "other.", FILE, False),
        ("model.", "module.", FILE, False),
        ("", "module.", [], False),
    ],
)
def test_wrapper_prefixes(
    model_prefix: str, file_prefix: str, names: list[str], found: bool
) -> None:
    speaker = net(model_prefix).for_names(file_prefix + name for name in names)
    assert (speaker.about(f"{file_prefix}a.weight", CONV) is not None) is found
    assert bool(speaker.note) is not found


def test_own_names_are_not_mapped() -> None:
    speaker = net().for_names([*FILE, "module.a.weight"])
    assert speaker.about("module.a.weight", CONV) is None
    assert speaker.about("a.weight", CONV) is not None


GOOD = """
    from torch import nn
    import helper
    print("noise")
    def build():
        import helper
        return nn.Sequential(nn.Conv2d(helper.CHANNELS, 4, 2, 2))
    def failing():
        raise RuntimeError("no\\n  weights")
    def leaving():
        raise SystemExit("bye")
    def data():
        return {}
    value = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "helper.py").write_text("CHANNELS = 3\n")
    (tmp_path / "my-model.py").write_text(textwrap.dedent(GOOD))
    (tmp_path / "menagerie").mkdir()
    (tmp_path / "menagerie" / "model_of_zoo.py").write_text(textwrap.dedent(GOOD))
    (tmp_path / "broken.py").write_text("def build(:\n")
    # Each test has its own folder, so no module of an earlier one may be found.
    for name in ("helper", "menagerie", "menagerie.model_of_zoo"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


SPECS: list[Callable[[Path], str]] = [
    lambda _: "my-model.py:build",
    lambda folder: f"{folder}/my-model.py:build",
    lambda _: "menagerie/model_of_zoo.py:build",
    lambda _: "menagerie.model_of_zoo:build",
]


@pytest.mark.parametrize("spec", SPECS)
def test_build(
    spec: Callable[[Path], str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = list(sys.path), sys.dont_write_bytecode
    speaker = build(spec(folder))
    assert (sys.path, sys.dont_write_bytecode) == before
    statement = speaker.about("0.weight", CONV)
    assert statement == Statement(
        Level.MODEL, spec(folder), "conv2d", Geometry.plain((2, 2), (2, 2))
    )
    assert capsys.readouterr().out == ""
    assert not list(folder.rglob("__pycache__"))


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("my-model.py:biuld", "has no function biuld"),
        ("my-model.py:value", "has no function value"),
        ("my-model.py:data", "returned a dict"),
        ("my-model.py:failing", "RuntimeError: no weights"),
        ("my-model.py:leaving", "SystemExit: bye"),
        ("missing.py:build", "FileNotFoundError"),
        ("broken.py:build", "SyntaxError"),
        ("no_such_module:build", "No module named 'no_such_module'"),
    ],
)
def test_models_that_cannot_be_built(spec: str, words: str, folder: Path) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        build(spec)
    assert caught.value.code == "CS062"
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert str(folder) not in sys.path


@pytest.mark.parametrize("spec", ["model.py", ":build", "model.py:", "a:vit-base", ""])
def test_malformed_spec(spec: str) -> None:
    with pytest.raises(UsageError, match=r"file\.py:function") as caught:
        build(spec)
    assert caught.value.code == "CS090"


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModelError, match="needs torch") as caught:
        model.need_torch()
    assert caught.value.code == "CS052"
