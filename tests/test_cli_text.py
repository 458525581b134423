"""What the commands print: errors in one line, no escapes, nothing raw from a file, help, reports."""

from __future__ import annotations

import ast
import re
import shlex
import tempfile
import unicodedata
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convsurgeon.codes import codes
from tests.cli_helpers import EMBED, NASTY, Tensor, f32, invoke, model_file, write
from tests.strategies import UNICODE

UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
COMMANDS = ("scan", "swap", "verify", "restore", "explain")


def clean(text: str) -> bool:
    """Whether nothing in it drives a terminal."""
    return not {unicodedata.category(c) for c in text.replace("\n", "")} & UNSAFE


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return model_file(tmp_path / "model.safetensors")


@pytest.mark.parametrize("name", ["-l.safetensors", "a 'b\" $c.safetensors", "--json.safetensors"])
def test_lines_to_paste(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model_file(Path(name))
    ran = invoke("swap", *EMBED, "--verify", "bits", "--", name, columns=200)
    assert ran.code == 0
    load, undo = (line.strip() for line in ran.out.splitlines()[-2:])
    call = ast.parse(load.removeprefix("load").strip(), mode="eval").body
    assert isinstance(call, ast.Call)
    swapped = ast.literal_eval(call.args[1])
    before = Path(name).read_bytes()
    Path(name).unlink()
    tool, *arguments = shlex.split(undo.removeprefix("undo"))
    assert (tool, arguments[-1]) == ("convsurgeon", swapped)
    assert invoke(*arguments).code == 0
    assert Path(name).read_bytes() == before


WRONG: list[tuple[list[str], str]] = [
    (["scan"], "paths"),
    (["scan", "--bogus", "x"], "--bogus"),
    (["swap", "x", "--max-header-bytes", "many"], "--max-header-bytes"),
    (["swap", "x", "--max-header-bytes", "0"], "--max-header-bytes"),
    (["verify", "a", "b", "c"], "c"),
    (["operate"], "operate"),
    (["scan", "\x1b[31mx"], r"\x1b"),
    (["verify", "a", "b", "\x1b[31m"], r"\x1b"),
    (["explain", "CS999"], "CS999"),
    (["swap", "x", "--report", "r.html"], ".json, .md, .svg"),
    (["swap", "x", "--report", "r"], "no suffix"),
    (["swap", "x", "--to", "cinv"], "'linear', 'conv'"),
]


@pytest.mark.parametrize(("arguments", "says"), WRONG, ids=str)
def test_an_error_is_one_line_on_stderr(arguments: list[str], says: str) -> None:
    ran = invoke(*arguments)
    assert ran.code == (3 if arguments == ["scan", "\x1b[31mx"] else 2)
    assert ran.out == ""
    assert ran.err.startswith("convsurgeon: ")
    assert says in ran.err
    assert ran.err.count("\n") == 1
    assert clean(ran.err)


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command: str) -> None:
    ran = invoke(command, "--help")
    assert ran.code == 0
    assert f"convsurgeon {command}" in ran.out
    assert "Exit codes: 0 done" in ran.out
    assert "\x1b" not in ran.out


def test_no_arguments_show_the_help() -> None:
    ran = invoke()
    assert ran.code == 2
    assert all(command in ran.out + ran.err for command in COMMANDS)
    assert invoke("--version").out.startswith("convsurgeon 0.")


@pytest.mark.parametrize("code", list(codes()))
def test_explain(code: str) -> None:
    ran = invoke("explain", code.lower())
    row = codes()[code]
    assert ran.code == 0
    assert all(text in ran.out for text in (code, row.title, row.meaning, row.example, row.way_out))
    assert f"{code}  {row.title}\n" in invoke("explain").out


def test_quiet(model: Path) -> None:
    ran = invoke("swap", model, *EMBED, "--quiet")
    assert (ran.code, ran.out, ran.err) == (0, "", "")
    batch = invoke("swap", model, model.with_name("gone"), *EMBED, "-q")
    assert (batch.code, batch.out, batch.err.count("\n")) == (4, "", 1)
    assert "gone" in batch.err


def test_no_escape_bytes_when_piped(model: Path) -> None:
    swapped = model.with_name("model.linear.safetensors")
    for arguments in (
        ["scan", model],
        ["swap", model, *EMBED],
        ["verify", model, swapped],
        ["restore", swapped],
    ):
        ran = invoke(*arguments)
        assert ran.code == 0
        assert "\x1b" not in ran.out + ran.err
        assert ran.out


NAMES = st.text(UNICODE, min_size=1, max_size=12) | st.sampled_from(NASTY)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(names=st.lists(NAMES, min_size=1, max_size=4, unique=True), value=NAMES)
def test_nothing_from_a_file_reaches_the_terminal_raw(names: list[str], value: str) -> None:
    tensors = {f"{name}.weight": f32((2, 1, 2, 2)) for name in names}
    # One that is rewritten, so that the reports of swap and verify show the rest.
    tensors["zz.weight"] = f32((2, 1, 2, 2))
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "m.safetensors", tensors, {value: value})
        out = path.with_name("out.safetensors")
        report = Path(folder) / "r.svg"
        for arguments in (
            ["scan", path, "--report", report],
            ["swap", path, "-o", out, "--geometry", "*=s2", "--verify", "bits", "--report", report],
            ["swap", path, "-o", out, "--geometry", "zz=s2", "--verify", "bits", "--force"],
            ["verify", path, out, "--bits", "--report", report],
        ):
            ran = invoke(*arguments)
            assert ran.code == 0, ran.err
            assert clean(ran.out + ran.err)
            ET.fromstring(report.read_text("utf-8"))  # noqa: S314 - our own file


@pytest.mark.parametrize("name", [n for n in NASTY if n.isascii() and n.isprintable()])
def test_markup_in_a_name_is_shown_as_it_is(name: str, tmp_path: Path) -> None:
    tensors = {f"{name}.weight": f32((2, 1, 2, 2)), "zz.weight": f32((2, 1, 2, 2))}
    path = write(tmp_path / "m.safetensors", tensors)
    assert name in invoke("scan", path).out
    assert name in invoke("swap", path, "--geometry", "zz=s2", "--verify", "bits").out


@pytest.mark.parametrize("name", NASTY)
def test_errors_about_nasty_names(name: str, tmp_path: Path) -> None:
    tensors = {f"{name}.weight": f32((2, 1, 2, 2))}
    path = write(tmp_path / "m.safetensors", tensors | {"short": Tensor("F32", (2,), b"")})
    for ran in (invoke("scan", path), invoke("scan", tmp_path / name)):
        assert ran.code == 3
        assert clean(ran.err)
        assert ran.err.count("\n") == 1


REPORTS = {".json": '"schema": "convsurgeon.', ".md": "## ", ".svg": "<svg "}


@pytest.mark.parametrize("suffix", REPORTS)
def test_reports(suffix: str, model: Path) -> None:
    swapped = model.with_name("model.linear.safetensors")
    report = model.with_name(f"report{suffix}")
    for arguments in (["scan", model], ["swap", model, *EMBED], ["verify", model, swapped]):
        assert invoke(*arguments, "--report", report).code == 0
        text = report.read_text("utf-8")
        assert REPORTS[suffix] in text
        assert "embed" in text
        if suffix == ".svg":
            ET.fromstring(text)  # noqa: S314 - our own file
            assert set(re.findall(r"[a-z]+://[^\"\s<]+", text)) == {"http://www.w3.org/2000/svg"}


def test_an_unknown_report_is_refused_before_any_work(model: Path) -> None:
    ran = invoke("swap", model, *EMBED, "--report", model.with_name("r.pdf"))
    assert ran.code == 2
    assert [p.name for p in model.parent.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("command", ["scan", "swap", "verify", "restore"])
def test_a_name_that_the_system_refuses(command: str) -> None:
    ran = invoke(command, "x" * 300)
    assert (ran.code, ran.out) == (3, "")
    assert "File name too long" in ran.err or "there is no such file" in ran.err
    assert "defect" not in ran.err
