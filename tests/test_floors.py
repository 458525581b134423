"""A module imports only from floors below its own, and each library on the floors it belongs to."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import convsurgeon
from tests.imports import Import, cycle, imports, modules

ROOT = Path(convsurgeon.__file__).parent

FLOORS: list[set[str]] = [
    {"bounded_json", "codes", "dtypes", "errors", "limits", "untrusted", "version"},
    {"header", "geometry", "rearrangement"},
    {"tree", "rules", "evidence", "stored"},
    {"plan"},
    {"store", "sources", "nn"},
    {"rewrite", "proof", "timing", "dense"},
    {"results", "integrations"},
    {"api", "report"},
    {"cli"},
    {"__main__"},
]
"""The units of the package, from the lowest floor to the highest."""


@dataclass(frozen=True)
class Library:
    """Where a library may be imported at all, and where at the top of a module."""

    units: frozenset[str]
    top: frozenset[str] = frozenset()


def units(*floors: int) -> frozenset[str]:
    return frozenset(unit for floor in floors for unit in FLOORS[floor])


MODELS = Library(frozenset({"store", "sources", "integrations"}))
LIBRARIES: dict[str, Library] = {
    "typer": Library(units(8), units(8)),
    "rich": Library(units(7, 8), units(7, 8)),
    "safetensors": MODELS,
    "transformers": MODELS,
    "diffusers": MODELS,
    "timm": MODELS,
    "torchvision": MODELS,
    "accelerate": MODELS,
    "torch": Library(units(4, 5, 6, 7, 8), frozenset({"nn", "proof", "dense"})),
    "numpy": Library(frozenset({"proof", "integrations"}), frozenset({"proof"})),
}
STRANGERS = [("rewrite", "proof"), ("proof", "rewrite"), ("proof", "rearrangement"), ("nn", "rewrite"),
             ("rewrite", "nn"), ("nn", "proof"), ("proof", "nn"),
             ("dense", "proof"), ("proof", "dense"), ("dense", "rewrite"), ("rewrite", "dense")]  # fmt: skip
"""Pairs of which the first never imports the second: a proof shares no code with what it proves."""


def floor_of(unit: str) -> int | None:
    return next((number for number, names in enumerate(FLOORS) if unit in names), None)


def unit_of(module: str, package: str) -> str:
    return module.removeprefix(f"{package}.").split(".")[0] if module != package else ""


def faults(root: Path) -> list[str]:
    """Everything in a package that breaks a rule of this file."""
    package = root.name
    found = [
        f"{unit} stands on no floor: add it to the table FLOORS"
        for unit in sorted({unit_of(name, package) for name in modules(root)} - {""})
        if floor_of(unit) is None
    ]
    inside: dict[str, set[str]] = {}
    for each in imports(root):
        unit = unit_of(each.importer, package)
        if each.target.split(".")[0] != package:
            found += _library_faults(each, unit)
        elif unit and unit_of(each.target, package) == unit:
            inside.setdefault(each.importer, set()).add(each.target)
        elif unit:
            found += _floor_faults(each, unit, unit_of(each.target, package))
    circle = cycle(inside)
    return [*found, *([f"a circle: {' -> '.join(circle)}"] if circle else [])]


def _floor_faults(each: Import, mine: str, theirs: str) -> list[str]:
    if not theirs:
        return [f"{each.importer} imports the package itself"]
    if (mine, theirs) in STRANGERS:
        return [f"{each.importer} imports {each.target}, which {mine} must not know"]
    upper, lower = floor_of(mine), floor_of(theirs)
    if upper is None or lower is None or lower < upper:
        return []
    return [f"{each.importer} (floor {upper}) imports {each.target} (floor {lower})"]


def _library_faults(each: Import, unit: str) -> list[str]:
    name = each.target.split(".")[0]
    if name in sys.stdlib_module_names:
        return []
    library = LIBRARIES.get(name)
    if library is None:
        return [f"{each.importer} imports {name}, which is not in the table LIBRARIES"]
    if unit not in library.units:
        return [f"{each.importer} imports {name}, which does not belong into {unit or 'the root'}"]
    if not each.late and unit not in library.top:
        return [f"{each.importer} imports {name} at its top, not in the function that needs it"]
    return []


def test_floors() -> None:
    assert faults(ROOT) == []


def test_the_table_names_each_unit_once() -> None:
    names = [unit for floor in FLOORS for unit in floor]
    assert len(names) == len(set(names))
    assert {unit for pair in STRANGERS for unit in pair} <= set(names)


GOOD = {
    "__init__": "from made_up.api import scan",
    "errors": "import json",
    "header/__init__": "from made_up.header.parse import x",
    "header/parse": "from made_up import errors",
    "proof/__init__": "import torch\nfrom made_up.header import x",
    "api": "def f():\n    import torch\n    from made_up.proof import x",
    "cli": "import typer\nfrom made_up import api, errors",
}
BAD = {
    "upwards": ({"errors": "from made_up.header import x"}, "errors (floor 0) imports made_up.header"),
    "sideways": ({"tree": "from made_up import rules", "rules": ""}, "tree (floor 2) imports made_up.rules"),
    "late is no excuse": ({"errors": "def f():\n    import made_up.plan", "plan": ""}, "floor 0"),
    "relative": ({"errors": "from .header import x"}, "errors (floor 0) imports made_up.header"),
    "relative, deep": ({"header/parse": "from ..plan import x", "plan": ""}, "imports made_up.plan"),
    "circle": ({"header/value": "from made_up.header.parse import x", "header/parse": "from . import value"}, "a circle: "),
    "late circle": ({"header/value": "def f():\n    from .parse import x", "header/parse": "from . import value"}, "a circle: "),
    "unknown unit": ({"brand_new": ""}, "brand_new stands on no floor: add it to the table FLOORS"),
    "the package itself": ({"api": "from made_up import scan"}, "api imports the package itself"),
    "rich below": ({"proof/x": "import rich.table"}, "imports rich, which does not belong into proof"),
    "typer below": ({"api": "from typer import Typer"}, "imports typer, which does not belong"),
    "torch below": ({"plan": "def f():\n    import torch"}, "imports torch, which does not belong"),
    "torch at the top": ({"store": "import torch.nn"}, "store imports torch at its top"),
    "torch in a class": ({"store": "class A:\n    import torch"}, "store imports torch at its top"),
    "torch in the root": ({"__init__": "def f():\n    import torch"}, "does not belong into the root"),
    "models in proof": ({"proof/x": "def f():\n    import timm"}, "imports timm, which does not belong"),
    "unknown library": ({"api": "import requests"}, "imports requests, which is not in the table"),
    "proof knows rearrangement": ({"proof/x": "from made_up.rearrangement import y", "rearrangement": ""}, "which proof must not know"),
    "rewrite knows proof": ({"rewrite": "import made_up.proof"}, "which rewrite must not know"),
}  # fmt: skip


def make(folder: Path, sources: dict[str, str]) -> Path:
    root = folder / "made_up"
    for name, source in sources.items():
        path = root / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return root


def test_a_package_that_keeps_to_the_floors_has_no_faults(tmp_path: Path) -> None:
    assert faults(make(tmp_path, GOOD)) == []


@pytest.mark.parametrize(("sources", "fault"), BAD.values(), ids=BAD)
def test_the_check_can_fail(sources: dict[str, str], fault: str, tmp_path: Path) -> None:
    found = faults(make(tmp_path, GOOD | sources))
    assert len(found) == 1
    assert fault in found[0]


HEAVY = ["torch", "rich", "typer", "numpy", "safetensors", "transformers"]
PROBE = "import sys; {}; print([name for name in {} if name in sys.modules])"


def loaded_by(statement: str) -> str:
    command = [sys.executable, "-c", PROBE.format(statement, HEAVY)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT.parent)
    return done.stdout.strip()


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_by("import convsurgeon") == "[]"


def test_the_probe_sees_what_is_heavy() -> None:
    assert loaded_by("import convsurgeon, safetensors, rich") == "['rich', 'safetensors']"


def prints(tree: ast.Module) -> list[int]:
    """Lines of calls to print, and of anything else that is done with it."""
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    return sorted(name.lineno for name in names if name.id == "print")


def test_the_library_never_prints() -> None:
    found = {name: prints(tree) for name, tree in modules(ROOT).items()}
    below = {n: lines for n, lines in found.items() if unit_of(n, ROOT.name) not in units(7, 8)}
    assert [name for name, lines in below.items() if lines] == []
    assert len(below) > 20


def test_a_print_is_seen() -> None:
    assert prints(ast.parse("x = 1\nprint(x)\nf = print")) == [2, 3]
