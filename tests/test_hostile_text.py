"""Every text that a stranger writes, hostile at once: no command shows any of it raw, in any format."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.cli_helpers import Ran, document, f32, invoke, read, write
from tests.crafted_files import BIDI, ESC, MARKUP
from tests.crafted_folders import INDEX

NASTY = (
    f"a{ESC}{BIDI}{MARKUP}[/x]<script>alert(1)</script>|`*_\n\r\x9b\u2028\u200b\U000e0041%s{{0}}"
)
FILE_NAME = f"{BIDI}{MARKUP}<b>|`\u2028\u200b%s{{0}}".replace("/", "")
STATED = ("--geometry", "*=s2")


def check(ran: Ran, code: int = 0) -> None:
    """Neither stream holds a character that drives a terminal, or a traceback."""
    assert ran.code == code, ran.err
    text = ran.out + ran.err
    assert [c for c in text if c != "\n" and not (c.isprintable() or c == "\ufffd")] == []
    assert "Traceback" not in text
    assert "CS091" not in text


def check_reports(*arguments: object, folder: Path, code: int = 0) -> None:
    """The same in every format that a report has."""
    check(invoke(*arguments), code)
    check(invoke(*arguments, columns=300), code)
    found, content = document(*arguments)
    assert found == code
    assert content["schema"].startswith("convsurgeon.")
    for suffix in (".md", ".svg", ".json"):
        report = folder / f"report{suffix}"
        check(invoke(*arguments, "--report", report), code)
        text = report.read_text("utf-8")
        raw = [c for c in text if c != "\n" and not (c.isprintable() or c in "\xa0\ufffd")]
        assert raw == []
        if suffix == ".svg":
            tags = {element.tag.rpartition("}")[2] for element in ET.fromstring(text).iter()}  # noqa: S314
            assert "script" not in tags
        elif suffix == ".md":
            assert re.findall(r"(?<!\\)<\w+", text) == []
        else:
            json.loads(text)


def tensors() -> dict[str, Any]:
    return {
        f"{NASTY}.proj.weight": f32((8, 3, 2, 2), 1),
        f"{NASTY}.stem.weight": f32((4, 3, 3, 3), 2),
        f"{NASTY}.head.weight": f32((5, 8), 3),
        NASTY: f32((3,), 4),
    }


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder in which everything that can be nasty is."""
    folder = tmp_path / f"m{FILE_NAME}"
    path = write(folder / f"{FILE_NAME}.safetensors", tensors(), {NASTY: NASTY, "format": NASTY})
    config = {
        "model_type": NASTY,
        "architectures": [NASTY],
        "patch_size": NASTY,
        NASTY: {NASTY: NASTY},
    }
    path.with_name("config.json").write_text(json.dumps(config))
    path.with_name(f"{FILE_NAME}.txt").write_text(NASTY)
    return path


@pytest.mark.parametrize("whole", [False, True], ids=["file", "folder"])
def test_commands(model: Path, whole: bool) -> None:
    path, place = (model.parent if whole else model), model.parent.parent
    out = place / f"out{FILE_NAME}{'' if whole else '.safetensors'}"
    check_reports("scan", path, folder=place)
    check(invoke("scan", path, "--explain", "*"))
    check(invoke("swap", path, "--dry-run", *STATED))
    check_reports("swap", path, "-o", out, *STATED, "--verify", "bits", folder=place)
    check_reports("scan", out, folder=place)
    check_reports("verify", path, out, "--bits", folder=place)
    check_reports("verify", out, folder=place)
    check(invoke("swap", path, "-o", out, "--layer", NASTY), 3)
    back = place / f"back{FILE_NAME}{'' if whole else '.safetensors'}"
    check(invoke("restore", out, "-o", back))
    check(invoke("verify", back, out, "--json", "--bits"))


def test_what_differs(model: Path) -> None:
    """Names that are missing, new, renamed, of another shape, other metadata."""
    other = model.parent.parent / "other.safetensors"
    changed = tensors()
    changed[f"{NASTY}2"] = changed.pop(NASTY)
    changed[f"{NASTY}.head.weight"] = f32((5, 7), 3)
    write(other, changed, {NASTY: "x", f"{NASTY}3": NASTY})
    check_reports("verify", model, other, "--bits", folder=other.parent, code=1)


def nasty_recipe(model: Path) -> tuple[Path, dict[str, Any]]:
    """A swapped file, and its recipe with every free text of it replaced."""
    out = model.parent.parent / "out.safetensors"
    check(invoke("swap", model, "-o", out, *STATED, "--verify", "bits"))
    recipe = json.loads(read(out)[1]["convsurgeon"])
    recipe["tool"] = NASTY
    recipe["original"]["name"] = FILE_NAME
    recipe["original"]["dropped"] = [NASTY, NASTY]
    for step in recipe["steps"]:
        step["rule"] = NASTY
        step["evidence"] = {"level": "user", "source": NASTY}
    return out, recipe


def test_a_recipe_whose_texts_are_hostile(model: Path) -> None:
    out, recipe = nasty_recipe(model)
    content, metadata = read(out)
    write(out, content, {**metadata, "convsurgeon": json.dumps(recipe)})
    check_reports("scan", out, folder=out.parent)
    check(invoke("scan", out, "--explain", "*"))
    check_reports("verify", model, out, "--bits", folder=out.parent)
    check_reports("verify", out, folder=out.parent)
    check(invoke("restore", out))
    assert (out.parent / FILE_NAME).read_bytes() == model.read_bytes()


@pytest.mark.parametrize("place", ["layout", "key", "form", "level", "sha256", "schema"])
def test_a_recipe_that_is_refused(model: Path, place: str) -> None:
    out, recipe = nasty_recipe(model)
    step = recipe["steps"][0]
    targets = {"layout": (step, "layout"), "key": (step, "key"), "form": (step["to"], "form"),
               "level": (step["evidence"], "level"), "sha256": (step, "sha256"), "schema": (recipe, "schema")}  # fmt: skip
    where, name = targets[place]
    where[name] = NASTY
    content, metadata = read(out)
    write(out, content, {**metadata, "convsurgeon": json.dumps(recipe)})
    for command in ("scan", "restore", "verify"):
        ran = invoke(command, out)
        assert ran.err.count("\n") <= 1 or ran.code == 0
        check(ran, ran.code)
        assert ran.code in {0, 1, 3}


def test_shards(model: Path) -> None:
    folder = model.parent.parent / "sharded"
    weight_map: dict[str, str] = {}
    for number, (name, tensor) in enumerate(tensors().items()):
        shard = f"{number}{FILE_NAME.replace(chr(0x2028), '')}.safetensors"
        write(folder / shard, {name: tensor}, {NASTY: NASTY})
        weight_map[name] = shard
    (folder / INDEX).write_text(json.dumps({"metadata": {NASTY: NASTY}, "weight_map": weight_map}))
    out = folder.with_name("out")
    check_reports("scan", folder, folder=folder.parent)
    check_reports("swap", folder, "-o", out, *STATED, "--verify", "bits", folder=folder.parent)
    check_reports("verify", folder, out, "--bits", folder=folder.parent)
    next(out.glob("1*")).unlink()
    check(invoke("scan", out), 3)
    check(invoke("verify", folder, out, "--bits"), 3)


def test_pickles(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    weight = torch.ones(8, 3, 2, 2)
    several = {NASTY: {NASTY: weight}, "model": {f"{NASTY}.weight": weight}, f"{NASTY}2": NASTY}
    torch.save(several, tmp_path / "several.pt")
    check(invoke("scan", tmp_path / "several.pt"), 3)
    check(invoke("scan", tmp_path / "several.pt", "--key", NASTY))
    check(invoke("scan", tmp_path / "several.pt", "--key", f"{NASTY}3"), 3)
    out = tmp_path / "out.safetensors"
    check(
        invoke(
            "swap",
            tmp_path / "several.pt",
            "--key",
            "model",
            "-o",
            out,
            *STATED,
            "--verify",
            "bits",
        )
    )
    check(invoke("restore", out, "-o", tmp_path / "back.safetensors"))
    hostile = type(f"{NASTY}", (), {"__module__": NASTY, "__reduce__": lambda _: (print, (NASTY,))})
    torch.save({"w": hostile()}, tmp_path / "hostile.pt")
    check(invoke("scan", tmp_path / "hostile.pt"), 3)
    torch.save({NASTY: torch.ones(1).expand(1 << 30)}, tmp_path / "large.pt")
    check(invoke("scan", tmp_path / "large.pt"), 3)


def test_the_check_can_fail() -> None:
    for text in (
        "\x1b",
        "\x9b",
        "\u202e",
        "\u2028",
        "\r",
        "Traceback (most recent call last)",
        "[CS091]",
    ):
        for ran in (Ran(0, text, ""), Ran(0, "", text)):
            with pytest.raises(AssertionError):
                check(ran)
    check(Ran(0, "größe\n", "重み\n"))
