"""The configuration file as a value: what it may hold, where it is searched, what goes wrong."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from convsurgeon.errors import UsageError
from convsurgeon.sources.options import GeometryOption, InputShapeOption
from convsurgeon.sources.settings import Settings, find_settings, settings_of
from tests.cli_helpers import python

EVERY_KEY = """
geometry = ["a=s2", "b.*=k4,s4"]
input-shape = {"fc=1" = "512x7x7"}
model = "model.py:build"
evidence = "model"
require-evidence = "config"
layer = ["a*"]
exclude = ["head", "x"]
layout = "p1 p2 c"
max-header-bytes = 1000
"""
VALUES: dict[str, Any] = {
    "model": "model.py:build",
    "evidence": "model",
    "require-evidence": "config",
    "layer": ("a*",),
    "exclude": ("head", "x"),
    "layout": "p1 p2 c",
    "max-header-bytes": 1000,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder that is the root of a repository: no search leaves it."""
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def test_every_key(folder: Path) -> None:
    settings = settings_of(put(folder / "convsurgeon.toml", EVERY_KEY))
    place = "convsurgeon.toml: geometry"
    assert settings == Settings(
        path="convsurgeon.toml",
        found=False,
        geometries=(GeometryOption.parse("a=s2", place), GeometryOption.parse("b.*=k4,s4", place)),
        inputs=(InputShapeOption.parse("fc=1=512x7x7", "convsurgeon.toml: input-shape"),),
        values=VALUES,
    )
    assert settings.geometries[0].source == "convsurgeon.toml: geometry 'a=s2'"
    keys = ", ".join(sorted({*VALUES, "geometry", "input-shape"}))
    assert settings.note == f"configuration: convsurgeon.toml ({keys})"


@pytest.mark.parametrize(
    "text", ['geometry = ["a=s2", "b=s1"]', '[geometry]\na = "s2"\nb = "s1"'], ids=["list", "table"]
)
def test_statements_are_a_list_or_a_table(text: str, folder: Path) -> None:
    settings = settings_of(put(folder / "convsurgeon.toml", text))
    assert [(g.pattern, g.stride) for g in settings.geometries] == [("a", (2,)), ("b", (1,))]


def test_an_empty_file_sets_nothing_and_is_named(folder: Path) -> None:
    settings = settings_of(put(folder / "convsurgeon.toml", ""))
    assert settings.note == "configuration: convsurgeon.toml (nothing is set)"


LIST, TEXTS = "a list of texts 'GLOB=...', or a table of texts", "a list of texts"
WRONG: dict[str, tuple[str, str]] = {
    "unknown key": ("geomtry = []", "the key 'geomtry' is not known; known are geometry, "),
    "an option that is no key": ('to = "conv"', "the key 'to' is not known"),
    "geometry as a number": ("geometry = 16", f"geometry is not {LIST}"),
    "geometry as a text": ('geometry = "a=s2"', f"geometry is not {LIST}"),
    "a stride as a number": ("[geometry]\na = 2", f"geometry is not {LIST}"),
    "a table with an option": ('[geometry]\na = "b=s2"', f"geometry is not {LIST}"),
    "input-shape": ("input-shape = [1]", f"input-shape is not {LIST}"),
    "model": ("model = []", "model is not a text"),
    "layer": ('layer = "a"', f"layer is not {TEXTS}"),
    "exclude": ("exclude = [1]", f"exclude is not {TEXTS}"),
    "a size as a text": ('max-header-bytes = "5"', "max-header-bytes is not a whole number"),
    "a size as a truth": ("max-header-bytes = true", "max-header-bytes is not a whole number"),
    "no TOML": ("geometry = [", "it is no TOML: "),
    "a key twice": ("layer = []\nlayer = []", "it is no TOML: "),
}


@pytest.mark.parametrize(("text", "says"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_names_the_file_and_the_key(text: str, says: str, folder: Path) -> None:
    path = put(folder / "convsurgeon.toml", text)
    with pytest.raises(UsageError, match=re.escape(says)) as caught:
        settings_of(path)
    assert (caught.value.code, caught.value.where) == ("CS092", "convsurgeon.toml")
    assert "--no-config" in caught.value.hint


def test_a_malformed_statement_names_the_file_and_the_key(folder: Path) -> None:
    path = put(folder / "convsurgeon.toml", 'geometry = ["a"]')
    with pytest.raises(UsageError, match="has no '='") as caught:
        settings_of(path)
    assert (caught.value.code, caught.value.where) == ("CS090", "convsurgeon.toml: geometry")


def test_files_that_cannot_be_read(folder: Path) -> None:
    (folder / "bytes.toml").write_bytes(b"layout = '\xff'")
    (folder / "long.toml").write_bytes(b"#" * 1_000_001)
    os.mkfifo(folder / "fifo.toml")
    put(folder / "pyproject.toml", "[tool.ruff]")
    says = {
        "gone.toml": "No such file",
        "bytes.toml": "byte 10 is not UTF-8",
        "long.toml": "more than 1000000 bytes",
        "fifo.toml": "it is no regular file",
        ".": "Is a directory|no regular file",
        "pyproject.toml": r"it has no table \[tool\.convsurgeon\]",
    }
    for name, text in says.items():
        with pytest.raises(UsageError, match=text) as caught:
            settings_of(folder / name)
        assert caught.value.code == "CS092"


TOOL = '[tool.convsurgeon]\nlayout = "p1 p2 c"\n'
OWN = 'exclude = ["a"]\n'
SEARCH: dict[str, tuple[dict[str, str], str | None]] = {
    "nothing": ({}, None),
    "here": ({"repo/a/convsurgeon.toml": OWN}, "convsurgeon.toml"),
    "above": ({"repo/convsurgeon.toml": OWN}, "../convsurgeon.toml"),
    "a pyproject.toml": ({"repo/pyproject.toml": TOOL}, "../pyproject.toml"),
    "its own name first": (
        {"repo/pyproject.toml": TOOL, "repo/convsurgeon.toml": OWN},
        "../convsurgeon.toml",
    ),
    "the nearest first": (
        {"repo/a/pyproject.toml": TOOL, "repo/convsurgeon.toml": OWN},
        "pyproject.toml",
    ),
    "a pyproject.toml of others is passed over": (
        {"repo/a/pyproject.toml": "[tool.ruff]\n", "repo/convsurgeon.toml": OWN},
        "../convsurgeon.toml",
    ),
    "one that only speaks of convsurgeon too": (
        {"repo/a/pyproject.toml": "[project]\ndependencies = ['convsurgeon']\n"},
        None,
    ),
    "not above the repository": ({"convsurgeon.toml": OWN}, None),
    "no folder of that name": ({"repo/a/convsurgeon.toml/x": ""}, None),
}


@pytest.mark.parametrize(("files", "found"), SEARCH.values(), ids=SEARCH)
def test_the_search(
    files: dict[str, str], found: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "repo" / ".git").mkdir(parents=True)
    (tmp_path / "repo" / "a").mkdir()
    for name, text in files.items():
        put(tmp_path / name, text)
    monkeypatch.chdir(tmp_path / "repo" / "a")
    settings = find_settings(Path.cwd())
    assert (settings and settings.path) == found
    assert settings is None or settings.found


def test_a_search_ends_at_the_root_of_the_disk(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    put(tmp_path / "convsurgeon.toml", OWN)
    settings = find_settings(deep)
    assert settings is not None
    assert settings.values == {"exclude": ("a",)}


def test_a_table_of_another_kind(folder: Path) -> None:
    put(folder / "pyproject.toml", "[tool]\nconvsurgeon = 1\n")
    with pytest.raises(UsageError, match=r"tool\.convsurgeon is no table"):
        find_settings(folder)


def test_a_command_drops_the_keys_of_which_it_has_no_option(folder: Path) -> None:
    settings = settings_of(put(folder / "convsurgeon.toml", EVERY_KEY))
    kept = settings.for_options({"geometry": 1, "require_evidence": 1, "layer": 1})
    assert kept.values == {"require-evidence": "config", "layer": ("a*",)}
    assert kept.geometries == settings.geometries


def test_toml_is_read_only_where_there_is_some(folder: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from convsurgeon.sources.settings import find_settings\n"
        "find_settings(Path(sys.argv[1]))\n"
        "print('tomllib' in sys.modules)\n"
    )
    put(folder / "pyproject.toml", "[tool.ruff]\n")
    assert python(code, folder).out == "False\n"
    put(folder / "pyproject.toml", TOOL)
    assert python(code, folder).out == "True\n"
