"""Fuzzing in small: every target holds for some thousand inputs, and every mistake is found.

Longer runs are `python -m fuzz.run`, see CONTRIBUTING.md; what they did is in docs/hostile-files.md.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz import plain, summary, targets
from fuzz.mutate import WORDS, edited
from fuzz.seeds import CORPUS, seeds
from fuzz.targets import ACCEPTED, REFUSED, TARGETS, Finding
from tests import crafted_files, crafted_folders
from tests.reader_patches import PATCHES, UNCHANGED, Patch, applies

ROOT = Path(__file__).parent.parent
EXECUTIONS = 4000
FINDS = 8000


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_holds(target: str) -> None:
    outcomes = plain.search(target, EXECUTIONS)
    assert outcomes.total() == EXECUTIONS
    assert outcomes[ACCEPTED] > EXECUTIONS / 50, "nothing is learnt from inputs that are refused"
    assert outcomes[REFUSED] > EXECUTIONS / 2


@pytest.mark.long
@pytest.mark.parametrize("target", TARGETS)
def test_every_target_holds_for_longer(target: str) -> None:
    assert plain.search(target, 1_000_000, seed=1).total() == 1_000_000


@pytest.mark.parametrize("target", TARGETS)
def test_the_saved_corpus_holds(target: str) -> None:
    saved = [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]
    outcomes = {TARGETS[target](text) for text in saved}
    assert outcomes >= {ACCEPTED, REFUSED}
    assert len(saved) >= 5


def test_the_saved_corpus_is_small() -> None:
    sizes = [path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()]
    assert sum(sizes) < 1_000_000


@settings(max_examples=400)
@given(target=st.sampled_from(list(TARGETS)), data=st.binary(max_size=300))
def test_any_bytes(target: str, data: bytes) -> None:
    TARGETS[target](data)


@settings(max_examples=400)
@given(
    target=st.sampled_from(["header", "rules", "document"]), words=st.lists(st.sampled_from(WORDS))
)
def test_any_words(target: str, words: list[bytes]) -> None:
    TARGETS[target](b"{" + b"".join(words) + b"}")


@pytest.fixture(scope="module")
def noticed() -> set[str]:
    """The mistakes that a search finds, each in a package that has it."""
    command = [sys.executable, "-m", "tests.reader_patches", str(FINDS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines())


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.name)
def test_a_careless_reader_is_found(patch: Patch, noticed: set[str]) -> None:
    assert applies(patch), "the text that it changes is gone: change the patch"
    assert patch.name in noticed


def test_a_careful_one_is_not(noticed: set[str]) -> None:
    assert UNCHANGED.name not in noticed
    assert len({patch.name for patch in PATCHES}) == len(PATCHES) >= 30
    assert {patch.target for patch in PATCHES} == TARGETS.keys()


def test_a_finding_names_the_input(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(text: bytes) -> str:
        raise KeyError(text)

    monkeypatch.setitem(targets.TARGETS, "header", raises)
    with pytest.raises(Finding, match=r"^b'\{\}': KeyError"):
        plain.search("header", 1)


def test_edits_are_many_and_repeatable() -> None:
    base = next(seeds("header"))
    first, second = (
        [edited(base * 9, Random(seed).random) for seed in range(300)] for _ in range(2)
    )
    assert first == second
    assert len(set(first)) > 150


def test_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "fuzz.plain", "rules", "--executions", "300"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    record: dict[str, Any] = json.loads(done.stdout)
    assert record["target"] == "rules"
    assert sum(record["outcomes"].values()) == 300


def test_the_page_says_what_was_run() -> None:
    page = summary.PAGE.read_text("utf-8")
    runs = summary.records()
    assert summary.written(page, runs) == page, "run python -m fuzz.summary"
    assert summary.written(page, runs[:-1]) != page
    assert [run for run in runs if run["findings"]] == []
    assert {run["target"] for run in runs} == TARGETS.keys()


def test_the_page_counts_right() -> None:
    page = summary.PAGE.read_text("utf-8")
    folders = [code for _, code, _ in crafted_folders.FOLDERS.values()]
    files = crafted_files.REFUSED, crafted_files.ACCEPTED
    for count in (*map(len, files), len(folders), len(folders) - folders.count(None), len(PATCHES)):
        assert f" {count} " in page.replace("\n", " "), count
