"""Rules about the text of the package itself."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

import convsurgeon
from tests.imports import modules

ROOT = Path(convsurgeon.__file__).parent
REPOSITORY = ROOT.parent
MAX_LINES = 250
MAX_TEST_LINES = 400
MAX_FUNCTION = 40
MODULES = sorted(ROOT.rglob("*.py"))
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def tracked_texts() -> dict[str, str]:
    """Every text file that git tracks, or would; the sources where there is no git."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=REPOSITORY, capture_output=True, check=False,
    )  # fmt: skip
    names = listed.stdout.decode().split("\0")[:-1]
    if listed.returncode:
        names = [str(path.relative_to(REPOSITORY)) for path in MODULES]
    texts = {}
    for path in (REPOSITORY / name for name in names):
        content = path.read_bytes() if path.is_file() else b"\0"
        if b"\0" not in content[:1024]:
            texts[str(path.relative_to(REPOSITORY))] = content.decode("utf-8", "replace")
    return texts


def long_functions(tree: ast.Module) -> dict[str, int]:
    """Functions above the limit, docstring included, and their lines."""
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    lines = {f.name: (f.end_lineno or 0) - f.lineno + 1 for f in functions}
    return {name: count for name, count in lines.items() if count > MAX_FUNCTION}


def undocumented(tree: ast.Module) -> list[str]:
    """Public functions, classes and methods without a docstring, and the module itself."""
    missing = [] if ast.get_docstring(tree) else ["the module"]
    todo: list[ast.Module | ast.ClassDef] = [tree]
    while todo:
        for node in todo.pop().body:
            if not isinstance(node, Definition) or node.name.startswith("_"):
                continue
            if isinstance(node, ast.ClassDef):
                todo.append(node)
            if ast.get_docstring(node) is None and not overridden(node):
                missing.append(node.name)
    return missing


def overridden(node: Definition) -> bool:
    return any("override" in ast.unparse(d) for d in node.decorator_list)


def test_modules_are_short() -> None:
    lines = {str(p.relative_to(ROOT)): p.read_text("utf-8").count("\n") for p in MODULES}
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}
    assert len(lines) > 20


def test_test_modules_are_short() -> None:
    tests = {p.name: p.read_text("utf-8").count("\n") for p in Path(__file__).parent.glob("*.py")}
    assert {name: count for name, count in tests.items() if count > MAX_TEST_LINES} == {}


def test_functions_are_short() -> None:
    found = {name: long_functions(tree) for name, tree in modules(ROOT).items()}
    assert {name: functions for name, functions in found.items() if functions} == {}


def test_everything_public_is_documented() -> None:
    found = {name: undocumented(tree) for name, tree in modules(ROOT).items()}
    assert {name: missing for name, missing in found.items() if missing} == {}


@pytest.mark.parametrize(
    ("source", "long", "missing"),
    [
        ("'''M.'''\ndef f():\n    '''D.'''\n" + "    x = 1\n" * 38, {}, []),
        ("'''M.'''\ndef f():\n    '''D.'''\n" + "    x = 1\n" * 39, {"f": 41}, []),
        ("def f(): pass", {}, ["the module", "f"]),
        ("'''M.'''\nclass A:\n    '''D.'''\n    def g(self): pass\n    def _h(self): pass", {}, ["g"]),
    ],
)  # fmt: skip
def test_the_checks_can_fail(source: str, long: dict[str, int], missing: list[str]) -> None:
    tree = ast.parse(source)
    assert (long_functions(tree), undocumented(tree)) == (long, missing)


def test_public_names_are_those_of_all() -> None:
    declared = getattr(convsurgeon, "__all__", None)
    if declared is None:
        pytest.skip("the package declares no __all__")
    modules_ = {unit.stem for unit in ROOT.iterdir()}
    public = {name for name in dir(convsurgeon) if not name.startswith("_")} - modules_
    assert public == {name for name in declared if not name.startswith("_")}
    assert len(set(declared)) == len(declared)
    assert [name for name in declared if not hasattr(convsurgeon, name)] == []


SPELLED_OUT = {"LICENSE", f"tests/{Path(__file__).name}"}  # the patterns stand in this very file
FORBIDDEN = {
    "unfinished work": re.compile(r"\b(?:TODO|FIXME|XXX)\b"),
    "a machine's own path": re.compile(r"(?<![\w.}$-])/(?:root|home|work|Users|opt/venvs)/\w"),
    "a registry's host": re.compile(r"pypi\.org|pythonhosted\.org|registry\.npmjs|artifactory"),
}


@pytest.mark.parametrize("kind", FORBIDDEN)
def test_no_tracked_text_holds(kind: str) -> None:
    texts = {name: text for name, text in tracked_texts().items() if name not in SPELLED_OUT}
    assert [name for name, text in texts.items() if FORBIDDEN[kind].search(text)] == []
    assert len(texts) > 30


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("unfinished work", "# TODO: later"),
        ("a machine's own path", "cd /root/x"),
        ("a machine's own path", '"/home/me"'),
        ("a registry's host", "https://pypi.org/simple"),
    ],
)
def test_what_is_forbidden_is_seen(kind: str, text: str) -> None:
    assert FORBIDDEN[kind].search(text)
