"""`scan --explain`: all that was weighed about a layer, as a value, as text and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

import convsurgeon as cs
from convsurgeon.errors import UsageError
from convsurgeon.evidence import Heard, Level, Statement, hearing, weigh
from convsurgeon.geometry import LINEAR, Geometry, Refusal
from convsurgeon.plan import FilePlan, LayerPlan, Plan, Verdict, Wish
from convsurgeon.report.account import rule, way_to_change
from convsurgeon.report.markdown import as_markdown
from tests.cli_helpers import NASTY, check_snapshot, document, f32, invoke, shown, write
from tests.plans import ONE, TWO, Says, header, plan

LEVELS = [level for level in Level if level is not Level.NONE]
SUBCLASS = Refusal("CS007", "a StdConv2d")
OTHER = replace(TWO, stride=(1, 1))
SILENT = (
    ("user", "no statement names it"),
    ("model", "neither --model nor --evidence model was given"),
    ("config", "config.json: no model_type"),
    ("recipe", "no recipe in the file states it"),
    ("fingerprint", "no known architecture has these tensors"),
)


def say(
    level: Level,
    geometry: Geometry | None = TWO,
    refusal: Refusal | None = None,
    form: str = "conv2d",
    details: tuple[str, ...] = (),
) -> Statement:
    return Statement(level, f"the {level.label}", form, geometry, refusal, details)


def parts(*statements: Statement) -> list[tuple[str, str]]:
    heard = hearing(statements, weigh("proj", statements).statement)
    return [(one.statement.level.label, one.part) for one in heard]


USER, MODEL, CONFIG = Level.USER, Level.MODEL, Level.CONFIG
NOTHING = "comes to nothing"
VETO = "overruled: an inference never vetoes"
PARTS: list[tuple[list[Statement], list[tuple[str, str]]]] = [
    ([say(CONFIG)], [("config", "decides")]),
    ([say(CONFIG), say(USER)], [("user", "decides"), ("config", "agrees")]),
    ([say(CONFIG), say(USER, OTHER)], [("user", "decides"), ("config", "overruled")]),
    (
        [say(Level.FINGERPRINT, OTHER), say(CONFIG)],
        [("config", "decides"), ("fingerprint", VETO)],
    ),
    (
        [say(Level.FINGERPRINT, None, SUBCLASS), say(CONFIG)],
        [("config", "decides"), ("fingerprint", VETO)],
    ),
    (
        [say(USER, None), say(CONFIG)],
        [("user", "agrees, but does not give the geometry"), ("config", "decides")],
    ),
    (
        [say(USER), say(MODEL, None, SUBCLASS)],
        [("user", "agrees, but does not know the obstacle"), ("model", "decides")],
    ),
    (
        [say(CONFIG), say(Level.FINGERPRINT, None)],
        [("config", "decides"), ("fingerprint", NOTHING)],
    ),
    ([say(Level.FINGERPRINT, None)], [("fingerprint", NOTHING)]),
    ([say(USER, None)], [("user", "decides the form; nobody gives the geometry")]),
    ([say(CONFIG), say(CONFIG)], [("config", "decides"), ("config", "agrees")]),
]


@pytest.mark.parametrize(("statements", "expected"), PARTS, ids=str)
def test_the_part_of_each(statements: list[Statement], expected: list[tuple[str, str]]) -> None:
    assert parts(*statements) == expected


@pytest.mark.parametrize("pair", list(product(LEVELS, repeat=2)), ids=str)
def test_exactly_one_decides(pair: tuple[Level, Level]) -> None:
    found = parts(*(say(level) for level in pair))
    assert [part for _, part in found] == ["decides", "agrees"]
    assert [level for level, _ in found] == [v.label for v in sorted(pair, reverse=True)]


def test_nothing_heard() -> None:
    assert hearing([], None) == ()


def test_whoever_is_overruled_is_warned_about_once() -> None:
    three = [say(USER), say(MODEL), say(CONFIG), say(Level.FINGERPRINT, OTHER)]
    (warning,) = weigh("proj", three).warnings
    assert warning.startswith("proj: the user says ")
    assert ", an inference from the fingerprint says " in warning


# --- the plan


def about(*statements: Statement) -> list[Says]:
    return [Says({"proj.weight": statement}) for statement in statements]


def explained(*statements: Statement, shape: tuple[int, ...] = (4, 3, 2, 2)) -> LayerPlan:
    names = {"proj.weight": shape, "stem.weight": (4, 3, 7, 7)}
    (layer, _) = plan(header(names), *about(*statements), wish=Wish(explain=("proj",))).layers
    return layer


def test_only_what_is_asked_for_is_kept() -> None:
    names = {"proj.weight": (4, 3, 2, 2), "stem.weight": (4, 3, 7, 7)}
    speakers = about(say(CONFIG))
    plain = plan(header(names), *speakers)
    asked = plan(header(names), *speakers, wish=Wish(explain=("proj",)))
    assert [layer.heard for layer in plain.layers] == [None, None]
    assert asked.layers[0].heard == (Heard(say(CONFIG), "decides"),)
    assert asked.layers[1].heard is None
    assert [replace(layer, heard=None) for layer in asked.layers] == list(plain.layers)
    assert not {"heard", "silent"} & {*plain.to_json(), *plain.layers[0].to_json()}


@pytest.mark.parametrize("pattern", ["proj", "pr*", "proj.weight", "*", "p[r]oj"])
def test_a_pattern_names_the_module_or_its_weight(pattern: str) -> None:
    wish = Wish(explain=("x", pattern))
    assert wish.explains("proj", "proj.weight")
    assert not wish.explains("stem", "stem.weight") or pattern == "*"


def test_a_name_that_looks_like_a_pattern_is_a_name_too() -> None:
    assert Wish(explain=("a[0].b",)).explains("a[0].b", "a[0].b.weight")


def test_json_goes_both_ways() -> None:
    statements = (
        say(USER, None),
        say(MODEL, None, SUBCLASS),
        say(Level.FINGERPRINT, details=("vit_tiny", "deit_tiny")),
    )
    layer = explained(*statements)
    file = FilePlan("m", 1, 10, {}, (layer,), ("a note",), SILENT)
    data = json.loads(json.dumps(Plan((file,)).to_json()))
    assert Plan.from_json(data) == Plan((file,))
    last = data["files"][0]["layers"][0]["heard"][-1]
    assert last == {
        "level": "fingerprint",
        "source": "the fingerprint",
        "form": "conv2d",
        "says": "conv2d kernel 2×2, stride 2×2",
        "geometry": TWO.to_json(),
        "refusal": None,
        "details": ["vit_tiny", "deit_tiny"],
        "part": "agrees, but does not know the obstacle",
    }
    assert data["files"][0]["silent"] == dict(SILENT)


def test_rule_and_way_to_change_for_each_verdict() -> None:
    refused, undecided = explained(say(CONFIG, OTHER)), explained()
    assert (rule(refused), way_to_change(refused)) == (
        "none: windows overlap",
        "None: the convolution has to stay.",
    )
    assert rule(undecided) == "none: every rule needs the geometry"
    assert way_to_change(undecided) == "--geometry proj=k2x2,s2x2,p0,d1,g1"
    eligible = explained(say(CONFIG))
    assert rule(eligible) == "patchify: stride equals kernel"
    assert way_to_change(eligible).startswith("--exclude leaves it alone")
    left_out = replace(eligible, rewrite=None)
    assert rule(left_out) == "none: the options leave the layer out"
    assert "--layer" in way_to_change(left_out)
    already = replace(left_out, verdict=Verdict.ALREADY)
    assert rule(already) == "none is needed"
    assert way_to_change(already).startswith("convsurgeon restore ")


def test_an_inference_that_came_to_nothing_is_no_evidence() -> None:
    layer = explained(say(Level.FINGERPRINT, None, details=("two opinions",)))
    assert (layer.evidence, layer.verdict.value) == (None, "undecided")
    assert "no inference: scan --explain says why" in layer.reason
    text = shown(Plan((FilePlan("m", 1, 10, {}, (layer,), (), SILENT),)))
    assert "no inference from the fingerprint" in text
    assert "two opinions" in text
    assert "inferred from" not in text


# --- what is shown


def every_case() -> Plan:
    """Layers in which each part is played, by each level."""
    names: dict[str, tuple[int, ...]] = {f"blocks.{i}.conv.weight": (8, 8, 2, 2) for i in range(3)}
    names |= {"agree.weight": (4, 3, 2, 2), "fork.weight": (4, 3, 2, 2), "fused.weight": (4, 12)}
    names |= {"norm.weight": (4, 3, 1, 1), "stem.weight": (4, 3, 7, 7), "other.weight": (2, 2, 2)}
    rests = tuple(f"vit_{name}_patch2" for name in ("tiny", "small", "[base]", "\x1b[1mlarge"))
    inferred = say(Level.FINGERPRINT, details=rests)
    said: list[dict[str, Statement]] = [
        {"agree.weight": say(USER), "fork.weight": say(USER, OTHER)},
        {"agree.weight": say(MODEL), "norm.weight": say(MODEL, None, SUBCLASS)},
        {"agree.weight": say(CONFIG), "fork.weight": say(CONFIG), "norm.weight": say(CONFIG, ONE)},
        {"agree.weight": say(Level.RECIPE), "fused.weight": say(Level.RECIPE, None, form=LINEAR)},
        {name: inferred for name in names if name.startswith("blocks")},
        {"fork.weight": say(Level.FINGERPRINT), "agree.weight": say(Level.FINGERPRINT, OTHER)},
    ]
    wish = Wish(explain=("*.conv", "agree", "fork", "norm", "stem"))
    file = plan(header(names), *map(Says, said), wish=wish)
    return Plan((replace(file, silent=SILENT),))


@pytest.mark.parametrize("width", [80, 200])
def test_snapshots(width: int) -> None:
    text = shown(every_case(), width)
    assert max(map(len, text.splitlines())) <= width
    check_snapshot(f"explain.{width}.txt", text)


def test_markdown_snapshot() -> None:
    check_snapshot("explain.md", as_markdown(every_case()))


def test_explanations_that_differ_are_not_folded() -> None:
    """Two layers may rest on one statement, while something else was heard about one of them."""
    names = {f"blocks.{i}.weight": (4, 3, 2, 2) for i in range(3)}
    stated = Says({name: say(USER) for name in names})
    more = Says({"blocks.2.weight": say(Level.FINGERPRINT)})
    plain = plan(header(names), stated, more)
    asked = plan(header(names), stated, more, wish=Wish(explain=("*",)))
    assert "blocks.{0…2}" in shown(Plan((plain,)))
    text = shown(Plan((replace(asked, silent=SILENT),)))
    assert "{0,1}" in text
    assert "{0…2}" not in text


# --- the command


@pytest.fixture
def model(tmp_path: Path) -> Path:
    tensors = {"embed.proj.weight": f32((8, 3, 2, 2)), "stem.weight": f32((4, 3, 3, 3))}
    return write(tmp_path / "model.safetensors", {**tensors, "head.weight": f32((5, 8))})


def test_the_command(model: Path) -> None:
    (model.parent / "config.json").write_text('{"model_type": "made_up"}')
    ran = invoke("scan", model, "--explain", "embed.*", "--geometry", "embed.proj=s2", columns=120)
    assert ran.code == 0
    lines = [line.strip() for line in ran.out.splitlines()]
    assert "user         --geometry 'embed.proj=s2'" in lines
    assert "model        silent: neither --model nor --evidence model was given" in lines
    (config,) = (line for line in lines if line.startswith("config "))
    assert config.startswith("config       silent: config.json: model_type 'made_up' is not in the")
    assert "fingerprint  silent: no known architecture has these tensors" in lines
    assert "verdict      eligible   stride equals kernel" in lines
    assert "stem" not in ran.out


def test_json_of_the_command(model: Path) -> None:
    code, content = document("scan", model, "--explain", "stem")
    assert code == 0
    (file,) = content["files"]
    embed, stem = file["layers"]
    assert "heard" not in embed
    assert stem["heard"] == []
    assert file["silent"]["user"] == "no --geometry and no --input-shape was given"
    assert list(file["silent"]) == ["user", "model", "config", "recipe", "fingerprint"]
    _, plain = document("scan", model)
    assert "silent" not in plain["files"][0]


def test_a_silent_model_says_why(tmp_path: Path, model: Path) -> None:
    text = "import torch\ndef build():\n    return torch.nn.Sequential(torch.nn.Conv2d(8, 4, 3))\n"
    (tmp_path / "net.py").write_text(text)
    spec = f"{tmp_path / 'net.py'}:build"
    _, content = document("scan", model, "--explain", "stem", "--model", spec)
    assert "none of the model's names" in content["files"][0]["silent"]["model"]


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("embed.prj", "near it are embed.proj; matrices are candidates under --to conv only"),
        ("head", "matrices are candidates under --to conv only"),
        ("zzzzzz", "scan lists every candidate; matrices"),
    ],
)
def test_a_pattern_that_matches_nothing(pattern: str, hint: str, model: Path) -> None:
    ran = invoke("scan", model, "--explain", pattern)
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert f"--explain: no candidate is called {pattern!r} [CS090]; " in ran.err
    assert hint in ran.err


def test_each_pattern_has_to_match_in_some_file(model: Path) -> None:
    other = write(model.parent / "other.safetensors", {"else.weight": f32((2, 2, 2, 2))})
    asked = cs.scan([model, other], explain=["else", "stem"])
    assert len(asked.files) == 2
    with pytest.raises(UsageError, match="'elsewhere'"):
        cs.scan([model, other], explain=["else", "elsewhere"])


@pytest.mark.parametrize("name", NASTY)
def test_names_and_sources_are_untrusted(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors", {f"{name}.weight": f32((2, 1, 2, 2))})
    ran = invoke("scan", path, "--explain", "*", "--geometry", "*=s2")
    assert ran.code == 0
    assert ran.out.replace("\n", "").isprintable()
    refused = invoke("scan", path, "--explain", f"{name}x")
    assert refused.code == 2
    assert refused.err.count("\n") == 1
    assert refused.err.strip("\n").isprintable()
