"""The tree of errors, the table of codes, and that they are those that the package uses."""

from __future__ import annotations

import inspect
import re
from dataclasses import asdict
from pathlib import Path

import pytest

import convsurgeon
from convsurgeon import errors
from convsurgeon.codes import codes
from convsurgeon.errors import ConvsurgeonError, HeaderError, UsageError

PACKAGE = Path(convsurgeon.__file__).parent
CODE = re.compile(r"\bCS[0-9]{3}\b")
CLASSES: dict[str, type[ConvsurgeonError]] = {
    name: found
    for name, found in vars(errors).items()
    if inspect.isclass(found) and issubclass(found, ConvsurgeonError)
}


def drawn_tree() -> dict[str, tuple[str, int]]:
    """Class -> parent and exit code, as the module's docstring draws them."""
    tree: dict[str, tuple[str, int]] = {}
    parents: dict[int, tuple[str, int]] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.fullmatch(r"    ([│├└─ ]*)([A-Z]\w+Error)(?: +([0-9]))?(?: .*)?", line)
        if not match:
            continue
        depth = len(match[1]) // 4
        parent, inherited = parents.get(depth - 1, ("Exception", 3))
        tree[match[2]] = (parent, int(match[3] or inherited))
        parents[depth] = (match[2], tree[match[2]][1])
    return tree


def test_the_docstring_draws_the_tree_that_exists() -> None:
    exists = {name: (cls.__bases__[0].__name__, cls.exit_code) for name, cls in CLASSES.items()}
    assert drawn_tree() == exists
    assert len(exists) >= 15


def test_exit_codes_are_those_of_the_command_line() -> None:
    assert {cls.exit_code for cls in CLASSES.values()} == {1, 2, 3, 4}


def used_codes() -> dict[str, str]:
    """Each code that a module of the package mentions, and one module that does."""
    return {
        code: str(path.relative_to(PACKAGE))
        for path in sorted(PACKAGE.rglob("*.py"))
        for code in CODE.findall(path.read_text("utf-8"))
    }


def test_every_code_that_is_used_is_explained() -> None:
    unknown = {code: where for code, where in used_codes().items() if code not in codes()}
    assert unknown == {}


def test_every_code_that_is_explained_is_used() -> None:
    assert sorted(set(codes()) - set(used_codes())) == []


@pytest.mark.parametrize("code", codes())
def test_each_row_of_the_table(code: str) -> None:
    row = asdict(codes()[code])
    assert row["code"] == code
    assert CODE.fullmatch(code)
    for field, text in row.items():
        assert text == text.strip(), field
        assert text, field
        assert "\n" not in text, field
    assert row["meaning"].endswith(".")
    assert row["way_out"].endswith(".")
    assert len(row["title"]) < 60


def test_titles_are_different_and_codes_in_order() -> None:
    titles = [row.title for row in codes().values()]
    assert len(set(titles)) == len(titles)
    assert list(codes()) == sorted(codes())


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            HeaderError("CS040", "two names"),
            "two names [CS040]; convsurgeon explain CS040 says more",
        ),
        (
            HeaderError("CS040", "two names", where="a.st"),
            "a.st: two names [CS040]; convsurgeon explain CS040 says more",
        ),
        (UsageError("CS090", "no", hint="try this"), "no [CS090]; try this"),
        (UsageError("CS090", "no", where=Path("x/y"), hint="do"), "x/y: no [CS090]; do"),
    ],
)
def test_an_error_is_one_line(error: ConvsurgeonError, line: str) -> None:
    assert str(error) == line


def test_at_adds_a_place_only_where_there_is_none() -> None:
    error = HeaderError("CS040", "bad")
    assert error.at("a.st") is error
    assert error.at("b.st").where == "a.st"
