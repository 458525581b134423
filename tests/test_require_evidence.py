"""`--require-evidence` for each pair of levels, and what is inferred is called so in every view."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import pytest

import convsurgeon as cs
from convsurgeon.errors import ConvsurgeonError, NothingToDoError, RecipeError
from convsurgeon.evidence import Level, Statement, in_words
from convsurgeon.plan import Plan, Step
from convsurgeon.proof import Verdict
from convsurgeon.report.save import markdown
from convsurgeon.results import Report
from convsurgeon.sources.config import ConfigSpeaker
from tests.cli_helpers import document, f32, invoke, read, shown, write
from tests.plans import STEP, TWO, Says, header, only_layer, plan

LEVELS = [level for level in Level if level is not Level.NONE]
PAIRS = list(product(LEVELS, repeat=2))
SOURCE = "ViT tiny (timm 1.0) and 7 more"


@dataclass(frozen=True)
class Heard:
    """What stands in for the config: it says one geometry, on one level."""

    level: Level
    name: str = "config.json"
    note: str = ""

    def about(self, key: str, shape: tuple[int, ...]) -> Statement | None:
        form = "linear" if len(shape) == 2 else "conv2d"
        return Statement(self.level, SOURCE, form, TWO) if key == "proj.weight" else None


Hear = Callable[[Level], Path]


@pytest.fixture
def hear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hear:
    """Give a file about which evidence of a level is heard, and nothing else."""

    def model(level: Level) -> Path:
        monkeypatch.setattr(ConfigSpeaker, "read", lambda _: Heard(level))
        (tmp_path / "config.json").write_text("{}")
        return write(tmp_path / "m.safetensors", {"proj.weight": f32((4, 3, 2, 2))})

    return model


def flattened(path: Path) -> Path:
    """The file as another tool rewrites it: no recipe."""
    tensor = read(path)[0]["proj.weight"]
    out = path.parent / "other" / "m.safetensors"
    return write(out, {"proj.weight": tensor._replace(shape=(4, 12))})


@pytest.mark.parametrize(("heard", "required"), PAIRS, ids=lambda level: level.label)
def test_each_pair(heard: Level, required: Level, hear: Hear) -> None:
    path = hear(heard)
    choices = {"require_evidence": required.label}
    (layer,) = cs.scan(path, **choices).files[0].layers  # type: ignore[arg-type]
    assert layer.evidence == (heard.label, SOURCE)
    if heard >= required:
        assert (layer.verdict.value, layer.code) == ("eligible", None)
        report = cs.swap(path, verify="bits", **choices)  # type: ignore[arg-type]
        assert len(report.files[0].plan.rewrites) == 1
        verdict = cs.verify(path, flattened(path), function=False, **choices)  # type: ignore[arg-type]
        assert verdict.equivalent
        return
    says = f"inferred from {SOURCE}" if heard is Level.FINGERPRINT else f"evidence is {heard.label}"
    reason = f"{says}, --require-evidence asks {required.label}"
    assert (layer.verdict.value, layer.code, layer.reason) == ("refused", "CS017", reason)
    assert layer.rewrite is None
    with pytest.raises(NothingToDoError):
        cs.swap(path, verify="bits", **choices)  # type: ignore[arg-type]
    assert not path.with_name("m.linear.safetensors").exists()
    with pytest.raises(RecipeError) as caught:
        cs.verify(path, flattened(path), function=False, **choices)  # type: ignore[arg-type]
    assert f"CS017 {reason}" in caught.value.message


@pytest.mark.parametrize("level", ["none", "guess", "", "Config"])
@pytest.mark.parametrize("command", ["scan", "swap", "verify"])
def test_no_other_word_is_a_level(command: str, level: str, hear: Hear) -> None:
    ran = invoke(command, hear(Level.CONFIG), "--require-evidence", level)
    assert ran.code == 2
    known = "fingerprint, recipe, config, model, user"
    assert f"--require-evidence: {level!r} is none of {known} [CS090]" in ran.err


WORDS = {
    Level.USER: f"user, {SOURCE}",
    Level.MODEL: f"model, {SOURCE}",
    Level.CONFIG: f"config, {SOURCE}",
    Level.RECIPE: f"recipe, {SOURCE}",
    Level.FINGERPRINT: f"inferred from {SOURCE}",
}


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: level.label)
def test_every_view_of_every_command_shows_level_and_source(level: Level, hear: Hear) -> None:
    path = hear(level)
    swap = cs.swap(path, verify="bits")
    left = cs.swap(path, to="conv", dry_run=True)  # everything is left alone
    reports: list[Report] = [
        cs.scan(path),
        cs.scan(path, explain=["proj"]),
        cs.swap(path, dry_run=True, force=True),
        swap,
        left,
        cs.verify(path, flattened(path), function=False),
        cs.verify(path, path.with_name("m.linear.safetensors"), function=False),
        cs.verify(path.with_name("m.linear.safetensors")),
    ]
    for report in reports:
        explained = isinstance(report, Plan) and bool(report.files[0].silent)
        if not explained or level is Level.FINGERPRINT:
            assert WORDS[level] in shown(report, 200)
        assert WORDS[level] in markdown(report)
        evidence = json.dumps(report.to_json())
        assert json.dumps({"level": level.label, "source": SOURCE}) in evidence
        if not isinstance(report, Verdict):
            continue
        assert all(layer.given[1:] == (level.label, SOURCE) for layer in report.files[0].layers)
    assert f"[{WORDS[level]}]" in str(cs.scan(path))


def test_an_svg_shows_it_too(hear: Hear) -> None:
    path = hear(Level.FINGERPRINT)
    report = path.with_name("r.svg")
    assert invoke("scan", path, "--report", report).code == 0
    assert f"inferred from {SOURCE}".replace(" ", "&#160;") in report.read_text("utf-8")


def test_no_view_of_an_inference_calls_it_known(hear: Hear) -> None:
    path = hear(Level.FINGERPRINT)
    for arguments in (["scan", path], ["scan", path, "--explain", "proj"], ["swap", path]):
        out = invoke(*arguments, columns=200).out
        assert "inferred from" in out
        assert "known" not in out


# --- an inference stays one


def test_a_recorded_inference_stays_an_inference(hear: Hear) -> None:
    path = hear(Level.FINGERPRINT)
    cs.swap(path, verify="bits")
    swapped = path.with_name("m.linear.safetensors")
    (path.parent / "config.json").unlink()
    (layer,) = cs.scan(swapped, to="conv").files[0].layers
    assert layer.evidence == ("fingerprint", SOURCE)
    assert layer.verdict.value == "eligible"
    (refused,) = cs.scan(swapped, to="conv", require_evidence="recipe").files[0].layers
    assert (refused.code, refused.reason.split(",")[0]) == ("CS017", f"inferred from {SOURCE}")


def inferred_step() -> Step:
    return replace(STEP, evidence=("fingerprint", SOURCE))


def test_a_recorded_statement_is_a_recipe() -> None:
    assert STEP.statement().level is Level.RECIPE
    assert inferred_step().statement().level is Level.FINGERPRINT


@pytest.mark.parametrize(
    "level", [v for v in LEVELS if v > Level.FINGERPRINT], ids=lambda v: v.label
)
def test_an_inference_never_vetoes_a_statement(level: Level) -> None:
    shape = header({"proj.weight": (4, 3, 2, 2)})
    other = replace(TWO, stride=(1, 1))
    inference = Says({"proj.weight": Statement(Level.FINGERPRINT, SOURCE, "conv2d", other)})
    stated = Says({"proj.weight": Statement(level, "they", "conv2d", TWO)})
    for speakers in ((inference, stated), (stated, inference)):
        found = plan(shape, *speakers)
        (layer,) = found.layers
        assert (layer.evidence, layer.verdict.value) == ((level.label, "they"), "eligible")
        (warning,) = [note for note in found.notes if note != "a note"]
        assert warning == (
            "proj: they says conv2d kernel 2×2, stride 2×2, an inference from "
            f"{SOURCE} says conv2d kernel 2×2, stride 1×1; the first is used"
        )


def test_an_inference_alone_decides() -> None:
    inference = Says({"proj.weight": Statement(Level.FINGERPRINT, SOURCE, "conv2d", TWO)})
    layer = only_layer(header({"proj.weight": (4, 3, 2, 2)}), inference)
    assert (layer.evidence, layer.verdict.value) == (("fingerprint", SOURCE), "eligible")


@pytest.mark.parametrize(
    ("level", "source", "words"),
    [
        ("config", "config.json: patch_size 2", "config.json: patch_size 2"),
        ("recipe", "recipe: user, --geometry 'a=s2'", "recipe: user, --geometry 'a=s2'"),
        ("model", "model.py:build", "model, model.py:build"),
        ("fingerprint", "fingerprint: x", "inferred from fingerprint: x"),
    ],
)
def test_in_words(level: str, source: str, words: str) -> None:
    assert in_words(level, source) == words


# --- groups


def test_layers_of_different_evidence_are_not_folded(tmp_path: Path) -> None:
    tensors = {f"blocks.{i}.weight": f32((4, 3, 2, 2)) for i in range(4)}
    path = write(tmp_path / "m.safetensors", tensors)
    same = cs.scan(path, geometry=["*=s2"])
    assert "blocks.{0…3}" in shown(same)
    mixed = ["*=s2", "blocks.3=s2"]
    report = cs.swap(path, verify="bits", geometry=mixed)
    verdict = cs.verify(path, path.with_name("m.linear.safetensors"), function=False)
    for value in (cs.scan(path, geometry=mixed), report, verdict):
        text = shown(value, 200)
        assert "{0…2}" in text
        assert "{0…3}" not in text
        assert "--geometry '*=s2'" in text
        assert "--geometry 'blocks.3=s2'" in text


def test_verify_refuses_in_one_line(hear: Hear) -> None:
    path = hear(Level.FINGERPRINT)
    ran = invoke("verify", path, flattened(path), "--bits", "--require-evidence", "config")
    assert (ran.code, ran.out, ran.err.count("\n")) == (3, "", 1)
    assert f"CS017 inferred from {SOURCE}, --require-evidence asks config [CS081]" in ran.err
    code, content = document("scan", path, "--require-evidence", "config")
    assert (code, content["files"][0]["layers"][0]["code"]) == (0, "CS017")
    with pytest.raises(
        ConvsurgeonError, match=r"nothing is eligible: 1 refused \(\S+: .*--require-evidence"
    ):
        cs.swap(path, require_evidence="config")
