"""Every command and every Python block of the documentation is run, page by page.

The convention, for writers of pages:

- A page is run from top to bottom in an empty folder that holds a copy of `sample_checkpoints/`.
- In a ```console block, each line that begins with `$ ` is run. It has to exit with 0, or with N
  where the line ends with `# exit N`. Lines below it are its output, stdout and stderr; a line that
  holds only `...` stands for any number of lines. No line below it: the output is not compared.
- In a ```sh block each line is a command, and nothing is compared.
- ```python blocks are run in one namespace per page. A ```text block right below one is its stdout.
- Everything else (```text, ```json, ...) is not run.

Compared is the text after `steady`: times, floating-point figures in scientific notation, ratios of
errors and the folder's own path are replaced, since they differ from machine to machine; the lines
of trees, runs of spaces, line breaks and blank lines are left out, so that an excerpt can be shown
and a figure that is longer elsewhere may fold a line elsewhere.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from convsurgeon.cli import app

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    p.relative_to(ROOT).as_posix() for p in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]
)
# They fetch or install something, make an environment, or run the tests: CI does that.
NOT_RUN = re.compile(
    r"(\S*/)?((python3?(\.\d+)?|uv) (-m )?(venv|pip|pytest|build)\b|pip3? install|git clone|cd |pytest\b"
    r"|\. |source |uv (pip|venv|sync))|python3? (sample_checkpoints/train|benchmarks/\w+|examples/\w+)\.py|\.ci/run"
    r"|python3? -m fuzz\.\w+"
)
NEEDS = re.compile(r"<!-- needs: (\w+) -->")
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
OMITTED = "..."


@dataclass(frozen=True)
class Step:
    """One thing to run: a command line, or Python code."""

    text: str
    line: int
    is_python: bool
    exit_code: int = 0
    shown: tuple[str, ...] = ()


def steps(page: str) -> Iterator[Step]:
    """Yield what a page runs, in order."""
    blocks = list(BLOCK.finditer(page))
    for place, block in enumerate(blocks):
        indent, language, body = block[1], block[2], block[3]
        line = page.count("\n", 0, block.start()) + 2
        lines = [text.removeprefix(indent) for text in body.splitlines()]
        if language == "console":
            yield from _console(lines, line)
        elif language in ("sh", "bash", "shell"):
            commands = [(n, t) for n, t in enumerate(lines, line) if t.strip() and t[:1] != "#"]
            yield from (_command(text, n, []) for n, text in commands)
        elif language == "python":
            after = blocks[place + 1] if place + 1 < len(blocks) else None
            follows = after and after[2] == "text" and not page[block.end() : after.start()].strip()
            shown = tuple(after[3].splitlines()) if after and follows else ()
            yield Step("\n".join(lines), line, is_python=True, shown=shown)


def _console(lines: list[str], first: int) -> Iterator[Step]:
    starts = [n for n, text in enumerate(lines) if text.startswith("$ ")]
    assert starts[:1] == [0], f"line {first}: a console block begins with '$ '"
    for start, end in zip(starts, [*starts[1:], len(lines)], strict=True):
        yield _command(lines[start][2:], first + start, lines[start + 1 : end])


def _command(text: str, line: int, shown: list[str]) -> Step:
    command, _, code = text.partition("  # exit ")
    command = re.sub(r"  # .*", "", command).strip()
    return Step(command, line, is_python=False, exit_code=int(code or 0), shown=tuple(shown))


def steady(text: str, folder: Path) -> list[str]:
    """Return the lines of an output without what differs from run to run."""
    text = text.replace(f"{folder}/", "").replace(str(folder), ".")
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = (re.sub(r"^[ │├└─]+", "", line).strip() for line in text.splitlines())
    text = re.sub(r"[ \t]+", " ", "\n".join(line for line in lines if line))
    for pattern, word in _UNSTEADY:
        text = re.sub(pattern, word, text)
    return text.splitlines()


_UNSTEADY = (
    (r"\b\d+(\.\d+)? (ms|s)\b", "TIME"),
    (r"(?<= )(\d\.\d+e[+-]\d+|0)(?=\s([≤>]|in float64|from float64|between|\w+ ))", "FIGURE"),
    (r"(?<= )0(?=,? from float64|, \w+ )", "FIGURE"),
    (r"\b\d\.\d+e[+-]\d+\b", "FIGURE"),
    (r"\b[\d.]+(e\+\d+)?(?=× the original| yardsticks)", "RATIO"),
    (r"\b[\d.]+(e\+\d+)?(?=\s(and\s[\d.e+]+\s)?ulp\b)", "ULP"),
)
"""What differs from machine to machine, as patterns over text with line breaks."""


def matches(shown: list[str], found: list[str]) -> bool:
    """Tell whether an output is the one that a page shows."""
    pattern = "".join(r"(?:.* )??" if line == OMITTED else re.escape(line) + " " for line in shown)
    return re.fullmatch(pattern, "".join(f"{line} " for line in found)) is not None


class Runner:
    """Runs the steps of one page in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.namespace: dict[str, Any] = {"__name__": "__docs__"}

    def run(self, step: Step) -> None:
        """Run a step and compare what it gave with what the page shows."""
        code, output = self._python(step) if step.is_python else self._command(step)
        where = f"line {step.line}: {step.text}\n{output}"
        assert code == step.exit_code, f"exit code {code}\n{where}"
        if step.shown:
            shown = steady("\n".join(step.shown), self.folder)
            assert matches(shown, steady(output, self.folder)), where

    def _python(self, step: Step) -> tuple[int, str]:
        output = io.StringIO()
        source = "\n" * (step.line - 1) + step.text
        with contextlib.redirect_stdout(output):
            exec(compile(source, f"line {step.line}", "exec"), self.namespace)  # noqa: S102
        return 0, output.getvalue()

    def _command(self, step: Step) -> tuple[int, str]:
        if NOT_RUN.match(step.text):
            return step.exit_code, "\n".join(step.shown)
        words = shlex.split(step.text)
        plain = not any(w in ("|", "&&", ";", ">", "2>&1") or w.endswith(";") for w in words)
        if plain and Path(words[0]).name == "convsurgeon":
            result = CliRunner().invoke(app, words[1:], prog_name="convsurgeon")
            return result.exit_code, result.output
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", step.text],
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a working folder that holds the samples and nothing else."""
    ignored = shutil.ignore_patterns("__pycache__", "*.linear", "*.conv")
    shutil.copytree(ROOT / "sample_checkpoints", tmp_path / "sample_checkpoints", ignore=ignored)
    monkeypatch.chdir(tmp_path)
    for name, value in (("COLUMNS", "80"), ("TERMINAL_WIDTH", "80"), ("NO_COLOR", "1")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - modules:
        # The samples' `model.py` files share one name.
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_runs(page: str, folder: Path) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for module in NEEDS.findall(text):
        pytest.importorskip(module)
    runner = Runner(folder)
    for step in steps(text):
        runner.run(step)


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    text = BLOCK.sub("", path.read_text(encoding="utf-8"))
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    missing = [link for link in links if "://" not in link and not _leads_somewhere(path, link)]
    assert not missing


def _leads_somewhere(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    if not anchor:
        return target.exists()
    headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
    return anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}


def test_a_wrong_exit_code_is_seen(folder: Path) -> None:
    with pytest.raises(AssertionError, match="exit code 3"):
        Runner(folder).run(next(steps("```console\n$ convsurgeon scan missing\n```\n")))


def test_a_wrong_output_is_seen(folder: Path) -> None:
    page = "```console\n$ convsurgeon --version\nconvsurgeon 9.9.9\n```\n"
    with pytest.raises(AssertionError, match="convsurgeon --version"):
        Runner(folder).run(next(steps(page)))


def test_a_wrong_print_is_seen(folder: Path) -> None:
    with pytest.raises(AssertionError, match="line 2"):
        Runner(folder).run(next(steps("```python\nprint(1)\n```\n\n```text\n2\n```\n")))


def test_omitted_lines_match_any_number_of_lines() -> None:
    assert matches(["a", OMITTED, "c"], ["a", "c"])
    assert matches(["a", OMITTED, "c"], ["a", "b", "b", "c"])
    assert not matches(["a", OMITTED, "c"], ["a", "b"])
    assert not matches(["a"], ["a", "b"])


def test_what_is_not_run_installs_or_tests() -> None:
    for command in (
        "python -m venv .venv",
        "python3.11 -m venv .venv && .venv/bin/pip install .",
        "pip install 'convsurgeon[torch]'",
        ".venv/bin/python -m pytest",
        "git clone URL",
    ):
        assert NOT_RUN.match(command), command
    for command in ("convsurgeon scan x", "python -c pass", "cmp a b"):
        assert not NOT_RUN.match(command), command
