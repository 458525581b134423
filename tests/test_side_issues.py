"""Each row of docs/explanation-files.md names a test that exists, or a decision."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation-files.md"
TEST = re.compile(r"`(tests/\w+\.py)::(\w+)`")
DECISION = re.compile(r"\[\d{4}\]\((decisions/[\w-]+\.md)\)")
# What a tool that rewrites files has to have an answer to; each stands in the first column.
ISSUES = (
    *("symbolic link", "cache", "further names", "mode of a new", "mode of a replaced", "owner"),
    *("extended attributes", "access list", "security", "write permission", "immutable"),
    *("read-only", "full disk", "mapped", "shrinks", "changes", "two runs", "locks", "shards"),
    *("folder as output", "SIGINT", "SIGKILL", "report", "hostile", "NaN", "memory"),
)


def rows(text: str) -> list[tuple[str, str]]:
    """Issue and what holds it, row by row."""
    cells = [re.split(r" *\| *", line.strip("| ")) for line in text.splitlines() if line[:1] == "|"]
    return [(row[0], row[-1]) for row in cells[2:]]


def unheld(found: list[tuple[str, str]]) -> list[str]:
    """Rows that name nothing, or what does not exist."""
    wrong = []
    for issue, held in found:
        named = TEST.findall(held)
        decisions = DECISION.findall(held)
        if not named and not decisions:
            wrong.append(f"{issue}: nothing holds it")
        wrong += [f"{issue}: {f}::{name}" for f, name in named if name not in functions(ROOT / f)]
        wrong += [f"{issue}: {d}" for d in decisions if not (ROOT / "docs" / d).is_file()]
    return wrong


def functions(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    return {
        n.name for n in ast.parse(path.read_text("utf-8")).body if isinstance(n, ast.FunctionDef)
    }


def test_every_row_is_held() -> None:
    assert unheld(rows(PAGE.read_text("utf-8"))) == []


@pytest.mark.parametrize("issue", ISSUES)
def test_every_issue_has_a_row(issue: str) -> None:
    assert any(issue in row[0] for row in rows(PAGE.read_text("utf-8")))


@pytest.mark.parametrize(
    "held",
    [
        "we are careful",
        "`tests/test_side_issues.py::test_that_is_not_there`",
        "`tests/test_absent.py::test_x`",
        "[0001](decisions/0001-absent.md)",
    ],
)
def test_the_check_can_fail(held: str) -> None:
    assert unheld([("issue", held)]) != []
    (row,) = rows(f"| issue | held by |\n| --- | --- |\n| locks | {held} |")
    assert row == ("locks", held)
