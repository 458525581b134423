"""The table of compatibility against its tests: no cell without a test, no test without a cell."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.matrix import ROWS
from tests.matrix_models import SUBJECTS
from tools.compatibility import Row, page, read

HERE = Path(__file__).parent
OWN = "test_matrix_"
MODELS = "test_matrix_models::"  # its tests take names and kinds from the table by another way
ONE = '[S.a]\ncheck = "c"\ngemm = "ok"\nlinear = "no (an error)"\ntests = ["t::f"]\nway_out = "w"\n'


def shown_by(name: str) -> dict[str, set[str]]:
    """The tests of a file, each with what it takes from the table, as "ok row" or "no row"."""
    tree = ast.parse((HERE / f"{name}.py").read_text("utf-8"))
    return {
        f"{name}::{node.name}": set(_asked(node))
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def _asked(test: ast.FunctionDef) -> Iterator[str]:
    answers = {"works": "ok", "fails": "no"}
    for mark in test.decorator_list:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) in answers:
            yield f"{answers[ast.unparse(mark.func)]} {ast.literal_eval(mark.args[0])}"


def faults(rows: dict[str, Row], tests: dict[str, set[str]]) -> list[str]:
    """All that does not fit between a table and tests."""
    named = {test for row in rows.values() for test in row.tests}
    found = [f"{test} is in no row" for test in tests if OWN in test and test not in named]
    found += [f"there is no {test}" for test in sorted(named - tests.keys())]
    for row in rows.values():
        shown = {ask for test in row.tests for ask in tests.get(test, ())}
        # Other files run each test for all drop-ins, and show nothing that fails.
        if any(not test.startswith(OWN) or test.startswith(MODELS) for test in row.tests):
            shown.add(f"ok {row.name}")
        wanted = {f"{answer} {row.name}" for answer in ("ok", "no") if row.kinds(answer)}
        found += [f"no test shows {one}" for one in sorted(wanted - shown)]
        found += [f"{one} has tests and no cell" for one in sorted(shown - wanted)]
        if bool(row.way_out) != bool(row.kinds("no")):
            found.append(f"{row.name} needs a way out where it says no, and only there")
    return found


def everything() -> dict[str, set[str]]:
    """The tests of all files that have to do with the table."""
    files = {path.stem for path in HERE.glob(f"{OWN}*.py")} - {Path(__file__).stem}
    files |= {test.split("::")[0] for row in ROWS.values() for test in row.tests}
    return {test: asked for name in sorted(files) for test, asked in shown_by(name).items()}


def test_every_cell_is_a_test_and_every_test_has_a_cell() -> None:
    assert faults(ROWS, everything()) == []
    assert len(ROWS) > 40


def test_every_model_has_a_row() -> None:
    assert SUBJECTS.keys() == {
        name for name, row in ROWS.items() if row.tests[0].startswith(MODELS)
    }
    assert all(ROWS[name].kinds("ok") == ["gemm", "linear"] for name in SUBJECTS)


@pytest.mark.parametrize(
    ("tests", "fault"),
    [
        ({"test_matrix_x::test_y": {"ok a"}}, "test_matrix_x::test_y is in no row"),
        ({}, "there is no t::f"),
        ({"t::f": {"ok a"}}, "no test shows no a"),
        ({"t::f": {"ok a", "no a", "ok b"}}, "ok b has tests and no cell"),
    ],
)
def test_what_does_not_fit_is_seen(tests: dict[str, set[str]], fault: str) -> None:
    assert fault in faults(read(ONE), tests)


def test_a_failure_without_a_way_out_is_seen() -> None:
    text = ONE.replace('way_out = "w"\n', "")
    assert "a needs a way out where it says no, and only there" in faults(read(text), {})


@pytest.mark.parametrize(
    "text", [ONE.replace('"ok"', '"perhaps"'), ONE + ONE.replace("S.a", "T.a")]
)
def test_a_table_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="two rows are called a, or one of its cells says nothing"):
        read(text)


def test_the_page_shows_each_row() -> None:
    lines = page("").splitlines()
    for row in ROWS.values():
        (shown,) = [line for line in lines if line.startswith(f"| {row.check} |")]
        assert all(f"[{test.split('::')[0]}]" in shown for test in row.tests)
        assert [cell.strip() for cell in shown.split(" | ")[1:4]] == [
            row.cells.get(kind, "") for kind in ("conv", "gemm", "linear")
        ]
        assert not row.way_out or f"- **{row.check}**: {row.way_out}" in lines
