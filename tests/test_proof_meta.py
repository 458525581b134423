"""Tests of the tests: a verifier with one deliberate mistake fails the tests of the proofs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import convsurgeon
from tests.proof_patches import PATCHES, Patch

pytestmark = pytest.mark.long

ROOT = Path(convsurgeon.__file__).parent.parent
# Without the tests of thousands of files: what these few notice, those would too.
FAST = (
    "sabotage",
    "probes",
    "bounds",
    "mutants",
    "records",
    "rounding",
    "true_swaps",
    "mutation",
    "names",
    "ranges",
)
SLOW = "not test_no_mutant_survives and not test_no_true_swap"
HERE = """
from pathlib import Path
import convsurgeon
def test_it_is_the_copy_that_is_tested() -> None:
    assert Path(convsurgeon.__file__).parent.parent == Path(__file__).parent.parent
"""


def copy(folder: Path) -> Path:
    """Copy the package and what its tests of the proofs need."""
    for name in ("convsurgeon", "benchmarks", "tests"):
        leave = shutil.ignore_patterns("__pycache__", "census", "traps", "snapshots")
        shutil.copytree(ROOT / name, folder / name, ignore=leave)
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "tests" / "test_proof_here.py").write_text(HERE)
    return folder


def failures(folder: Path) -> tuple[int, str]:
    """Run the tests of a copy until one fails; return pytest's exit code and its last lines."""
    files = [f"tests/test_proof_{name}.py" for name in ("here", *FAST)]
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-k", SLOW]
    command = [sys.executable, "-m", "pytest", *options, *files]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, (done.stdout + done.stderr)[-2000:]


def apply(patch: Patch, folder: Path) -> None:
    path = folder / "convsurgeon" / "proof" / patch.file
    text = path.read_text("utf-8")
    assert text.count(patch.true) == 1, (
        f"{patch.name}: the text stands {text.count(patch.true)} times"
    )
    path.write_text(text.replace(patch.true, patch.false), "utf-8")


def test_the_verifier_as_it_is_passes(tmp_path: Path) -> None:
    code, text = failures(copy(tmp_path))
    assert code == 0, text


def test_there_are_patches_of_every_part() -> None:
    names = [patch.name for patch in PATCHES]
    assert len(names) == len(set(names)) >= 20
    parts = {"order.py", "bounds.py", "bits.py", "compare.py", "untouched.py", "function.py"}
    assert parts <= {patch.file for patch in PATCHES}


@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.name)
def test_a_verifier_with_one_mistake_fails(patch: Patch, tmp_path: Path) -> None:
    folder = copy(tmp_path)
    apply(patch, folder)
    code, text = failures(folder)
    # 1: a test failed. Anything else would be a copy that does not run at all.
    assert code == 1, text
    assert "test_it_is_the_copy" not in text
