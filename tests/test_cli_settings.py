"""What a configuration file does to the commands, and that a library call reads none."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

import convsurgeon as cs
from convsurgeon.api.choices import Choices, Request
from convsurgeon.sources.settings import Settings
from tests.cli_helpers import Ran, document, f32, invoke, model_file, read, write

STATED = '[geometry]\n"embed.*" = "s2"\n'
NOTE = "configuration: convsurgeon.toml (geometry)"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model, at the root of a repository."""
    (tmp_path / ".git").mkdir()
    model_file(tmp_path / "model.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def configure(text: str, name: str = "convsurgeon.toml") -> None:
    Path(name).write_text(text, "utf-8")


def layers(*arguments: object) -> dict[str, dict[str, Any]]:
    code, content = document(*arguments)
    assert code == 0, content
    return {layer["module"]: layer for layer in content["files"][0]["layers"]}


def test_a_working_folder_that_is_gone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    code, content = document("scan", folder / "model.safetensors")
    assert (code, content["files"][0]["notes"]) == (0, [])
    monkeypatch.chdir(folder)


def test_a_folder_above_that_may_not_be_entered(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = os.stat

    def refused(path: Any, *more: Any, **options: Any) -> os.stat_result:
        if not isinstance(path, int) and "convsurgeon.toml" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return stat(path, *more, **options)

    monkeypatch.setattr(os, "stat", refused)
    code, content = document("scan", "model.safetensors")
    assert (code, content["files"][0]["notes"]) == (0, [])
    code, content = document("scan", "convsurgeon.toml.safetensors")
    (error,) = content["errors"]
    assert (code, error["code"], "Permission denied" in error["message"]) == (3, "CS037", True)


def test_geometry_is_evidence_of_the_user(folder: Path) -> None:
    configure(STATED)
    layer = layers("scan", "model.safetensors")["embed.proj"]
    assert layer["verdict"] == "eligible"
    source = "convsurgeon.toml: geometry 'embed.*=s2'"
    assert layer["evidence"] == {"level": "user", "source": source}


def test_a_pyproject_works_the_same(folder: Path) -> None:
    configure('[tool.convsurgeon.geometry]\n"embed.*" = "s2"\n', "pyproject.toml")
    layer = layers("scan", "model.safetensors")["embed.proj"]
    assert layer["evidence"]["source"] == "pyproject.toml: geometry 'embed.*=s2'"


def test_reports_name_the_file(folder: Path) -> None:
    configure(STATED)
    swap = ("swap", "model.safetensors", "--verify", "bits")
    verify = ("verify", "model.safetensors", "model.linear.safetensors", "--bits")
    for arguments in (("scan", "model.safetensors"), (*swap, "--dry-run"), swap, verify):
        report = Path("report.md")
        ran = invoke(*arguments, "--report", report, columns=200)
        assert ran.code == 0, ran.err
        assert f"note: {NOTE}" in ran.out
        assert f"note: {NOTE}" in report.read_text("utf-8")
        _, content = document(*arguments)
        notes = content["notes"] if arguments[0] == "verify" else content["files"][0]["notes"]
        assert NOTE in notes


def test_without_a_file_nothing_is_noted(folder: Path) -> None:
    assert "configuration" not in invoke("scan", "model.safetensors").out


def test_the_recipe_names_the_file_and_no_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(STATED)
    assert invoke("swap", "model.safetensors", "-o", "a.safetensors", "--verify", "bits").code == 0
    (folder / "deep").mkdir()
    monkeypatch.chdir(folder / "deep")
    ran = invoke("swap", "../model.safetensors", "-o", "b.safetensors", "--verify", "bits")
    assert ran.code == 0
    assert "configuration: ../convsurgeon.toml" in ran.out
    one, other = (folder / "a.safetensors").read_bytes(), Path("b.safetensors").read_bytes()
    assert one == other
    (step,) = json.loads(read(Path("b.safetensors"))[1]["convsurgeon"])["steps"]
    assert step["evidence"]["source"] == "convsurgeon.toml: geometry 'embed.*=s2'"


def test_no_config_and_config(folder: Path) -> None:
    configure(STATED)
    configure('[geometry]\n"embed.*" = "s1"\n', "other.toml")
    assert layers("scan", "model.safetensors", "--no-config")["embed.proj"]["evidence"] is None
    layer = layers("scan", "model.safetensors", "--config", "other.toml")["embed.proj"]
    assert layer["evidence"]["source"] == "other.toml: geometry 'embed.*=s1'"
    both = invoke("scan", "model.safetensors", "--config", "other.toml", "--no-config")
    assert both.code == 2
    assert "--config: it excludes --no-config [CS090]" in both.err
    gone = invoke("scan", "model.safetensors", "--config", "gone.toml")
    assert (gone.code, gone.err.count("\n")) == (2, 1)
    assert "gone.toml: the configuration cannot be used: No such file" in gone.err
    assert "[CS092]" in gone.err


def test_statements_add_up_and_the_command_line_comes_last(folder: Path) -> None:
    configure('geometry = ["embed.*=s2", "stem=s3"]\n')
    found = layers("scan", "model.safetensors", "--geometry", "st*=s1,p1")
    assert found["embed.proj"]["evidence"]["source"] == "convsurgeon.toml: geometry 'embed.*=s2'"
    assert found["stem"]["evidence"]["source"] == "--geometry 'st*=s1,p1'"


# What the file sets, and an option that sets something else: what then holds of `embed.proj`.
REPLACED: list[tuple[str, tuple[str, ...], tuple[str, str], tuple[str, str]]] = [
    ('exclude = ["embed.*"]', ("--exclude", "stem"), ("eligible", ""), ("eligible", "linear")),
    ('layer = ["stem"]', ("--layer", "embed.*"), ("eligible", ""), ("eligible", "linear")),
    (
        'require-evidence = "user"',
        ("--require-evidence", "config"),
        ("refused", ""),
        ("eligible", "linear"),
    ),
]


@pytest.mark.parametrize(("text", "option", "by_file", "by_option"), REPLACED, ids=str)
def test_an_option_replaces_the_key_of_its_name(
    text: str,
    option: tuple[str, ...],
    by_file: tuple[str, str],
    by_option: tuple[str, str],
    folder: Path,
) -> None:
    config = {"architectures": ["VitDigits"], "model_type": "vit_digits", "patch_size": 2}
    Path("config.json").write_text(json.dumps({**config, "num_channels": 1, "hidden_size": 64}))
    write(Path("vit.safetensors"), {"patch_embed.proj.weight": f32((64, 1, 2, 2))})
    configure(text.replace("embed.", "patch_embed."))
    given = tuple(word.replace("embed.", "patch_embed.") for word in option)
    for arguments, outcome in (((), by_file), (given, by_option)):
        layer = layers("scan", "vit.safetensors", *arguments)["patch_embed.proj"]
        rewrite = layer["rewrite"] or {"to": ""}
        assert (layer["verdict"], rewrite["to"]) == outcome


def test_layout(folder: Path) -> None:
    configure(STATED.replace("[geometry]", 'layout = "p1 p2 c"\n[geometry]'))
    found = layers("scan", "model.safetensors")["embed.proj"]["rewrite"]["layout"]
    assert found == "p1 p2 c"
    given = layers("scan", "model.safetensors", "--layout", "c p1 p2")
    assert given["embed.proj"]["rewrite"]["layout"] == "c p1 p2"


def test_max_header_bytes(folder: Path) -> None:
    configure("max-header-bytes = 10")
    assert "[CS041]" in invoke("scan", "model.safetensors").err
    assert invoke("scan", "model.safetensors", "--max-header-bytes", "10000").code == 0


def test_input_shapes_take_part_only_where_convolutions_are_made(folder: Path) -> None:
    configure('input-shape = ["head=2x2x2"]')
    assert invoke("scan", "model.safetensors").code == 0
    layer = layers("scan", "model.safetensors", "--to", "conv")["head"]
    assert layer["evidence"]["source"] == "convsurgeon.toml: input-shape 'head=2x2x2'"
    assert layer["rewrite"]["weight_shape"] == [5, 2, 2, 2]


VALUES: list[tuple[str, str]] = [
    ('layout = "x"', "convsurgeon.toml: layout: 'x' is none of "),
    ('require-evidence = "none"', "convsurgeon.toml: require-evidence: 'none' is none of "),
    ("max-header-bytes = 0", "convsurgeon.toml: max-header-bytes: 0 is not between "),
    ('geometry = ["a=x1"]', "convsurgeon.toml: geometry: 'a=x1': "),
    ("to = 1", "convsurgeon.toml: the configuration cannot be used: the key 'to' is not known"),
]


@pytest.mark.parametrize(("text", "says"), VALUES, ids=str)
def test_a_wrong_value_is_one_line_that_names_file_and_key(
    text: str, says: str, folder: Path
) -> None:
    configure(text)
    ran = invoke("scan", "model.safetensors")
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith(f"convsurgeon: {says}")


def test_a_wrong_option_is_not_blamed_on_the_file(folder: Path) -> None:
    configure('layout = "x"')
    ran = invoke("scan", "model.safetensors", "--layout", "y")
    assert ran.err.startswith("convsurgeon: --layout: 'y' is none of ")


RUNS = "import torch\nfrom pathlib import Path\nPath('ran').write_text('')\ndef build():\n"


def with_model() -> None:
    body = "    return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 2, stride=2))\n"
    configure(RUNS + body, "net.py")
    write(Path("net.safetensors"), {"0.weight": f32((8, 3, 2, 2)), "0.bias": f32((8,))})
    configure('model = "net.py:build"')


def run_with(*arguments: str) -> tuple[Ran, bool]:
    ran = invoke("scan", "net.safetensors", *arguments)
    return ran, Path("ran").exists()


def test_a_file_that_was_only_found_runs_no_code(folder: Path) -> None:
    with_model()
    ran, code_ran = run_with()
    assert (ran.code, code_ran) == (2, False)
    assert "convsurgeon.toml: model: " in ran.err
    assert "[CS093]; if you trust it: --config convsurgeon.toml; otherwise --no-config" in ran.err
    assert run_with("--no-config")[1] is False


@pytest.mark.parametrize(
    "option", [("--config", "convsurgeon.toml"), ("--model", "net.py:build")], ids=str
)
def test_code_runs_where_the_user_names_it_or_the_file(
    option: tuple[str, ...], folder: Path
) -> None:
    with_model()
    ran, code_ran = run_with(*option)
    assert (ran.code, code_ran) == (0, True), ran.err
    assert "model, net.py:build" in ran.out


def test_a_library_call_reads_no_configuration_file(folder: Path) -> None:
    configure("this is no TOML")
    (layer,) = (v for v in cs.scan("model.safetensors").files[0].layers if v.module == "stem")
    assert layer.evidence is None
    assert invoke("scan", "model.safetensors").code == 2


def test_statements_about_other_checkpoints_are_not_missed(folder: Path) -> None:
    configure('geometry = ["elsewhere.*=s4"]')
    assert "matches no module" not in invoke("scan", "model.safetensors").out
    assert "matches no module" in invoke("scan", "model.safetensors", "--geometry", "e=s4").out


def test_restore_takes_no_configuration(folder: Path) -> None:
    configure(STATED)
    assert invoke("swap", "model.safetensors", "--verify", "bits").code == 0
    configure("this is no TOML")
    assert invoke("restore", "model.linear.safetensors", "-o", "again.safetensors").code == 0
    assert Path("again.safetensors").read_bytes() == Path("model.safetensors").read_bytes()


WAYS: list[tuple[dict[str, Any], Choices, tuple[str | None, str | None]]] = [
    ({"model": "a.py:f"}, {}, ("a.py:f", None)),
    ({"evidence": "model"}, {}, (None, "model")),
    ({"model": "a.py:f"}, {"evidence": "model"}, (None, "model")),
    ({"evidence": "model"}, {"model": "b.py:f"}, ("b.py:f", None)),
    ({"model": "a.py:f"}, {"model": "b.py:f"}, ("b.py:f", None)),
]


@pytest.mark.parametrize(("values", "choices", "expected"), WAYS, ids=str)
def test_a_call_takes_one_way_to_a_model_and_its_own_first(
    values: dict[str, Any], choices: Choices, expected: tuple[str | None, str | None]
) -> None:
    settings = Settings("c.toml", found=False, values=values)
    request = Request.of({**choices, "settings": settings})
    assert (request.model, request.evidence) == expected
    assert request.settings is settings


def test_a_wrong_way_to_a_model_names_the_key() -> None:
    settings = Settings("c.toml", found=False, values={"evidence": "guess"})
    with pytest.raises(cs.ConvsurgeonError, match="'guess'") as caught:
        Request.of({"settings": settings})
    assert caught.value.where == "c.toml: evidence"
