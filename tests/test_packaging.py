"""The wheel holds what it should, and the command runs with its declared dependencies alone."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Refuses every import that does not come from the standard library, the package, or the modules
# named in argv[1]; then runs the command line with the rest of argv.
ALONE = """
import sys
allowed = set(sys.argv[1].split(",")) | set(sys.stdlib_module_names) | {"convsurgeon"}
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] not in allowed and not name.startswith("_sysconfigdata"):
            raise ModuleNotFoundError(f"{name} is not declared", name=name)
sys.meta_path.insert(0, Refuse())
sys.argv = ["convsurgeon", *sys.argv[2:]]
from convsurgeon.__main__ import main
main()
"""


def declared_modules() -> set[str]:
    """The top-level modules of the distributions that a plain install brings."""
    names, todo = set(), ["convsurgeon"]
    while todo:
        name = todo.pop()
        if name in names:
            continue
        names.add(name)
        for requirement in metadata.requires(name) or []:
            if "extra ==" not in requirement:
                match = re.match(r"[A-Za-z0-9_.-]+", requirement)
                assert match is not None
                todo += [match[0].lower().replace("_", "-")] if _installed(match[0]) else []
    top = metadata.packages_distributions()
    return {m for m, owners in top.items() if {o.lower().replace("_", "-") for o in owners} & names}


def _installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def run_alone(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", ALONE, ",".join(sorted(declared_modules())), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    out = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "-o",
        str(out),
        str(ROOT),
    ]
    subprocess.run(command, capture_output=True, check=True)
    (path,) = out.glob("*.whl")
    return zipfile.ZipFile(path).namelist()


def test_the_wheel_holds_exactly_the_package(wheel: list[str]) -> None:
    expected = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "convsurgeon").rglob("*")
        if path.is_file() and path.suffix in (".py", ".toml", ".typed", ".bin")
    }
    inside = {name for name in wheel if ".dist-info/" not in name}

    assert inside == expected


def test_the_wheel_has_its_licence_and_its_command(wheel: list[str]) -> None:
    names = {name.split(".dist-info/")[-1] for name in wheel if ".dist-info/" in name}

    assert names == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["swap", "--help"],
        ["explain", "CS001"],
        ["scan", "sample_checkpoints/vit_digits"],
    ],
)
def test_the_command_runs_without_any_development_dependency(arguments: list[str]) -> None:
    result = run_alone(*[str(ROOT / a) if "/" in a else a for a in arguments])

    assert (result.returncode, result.stderr) == (0, "")


def test_swap_without_torch_proves_the_bits(tmp_path: Path) -> None:
    sample, out = str(ROOT / "sample_checkpoints/vit_digits"), str(tmp_path / "out")

    assert run_alone("swap", sample, "-o", out, "--verify", "bits").returncode == 0
    assert run_alone("restore", out, "-o", str(tmp_path / "back")).returncode == 0


def test_the_full_proof_says_that_it_needs_torch(tmp_path: Path) -> None:
    sample, out = str(ROOT / "sample_checkpoints/vit_digits"), str(tmp_path / "out")
    result = run_alone("swap", sample, "-o", out)

    assert result.returncode == 3
    assert "CS052" in result.stderr
    assert not (tmp_path / "out").exists()


def test_an_undeclared_import_would_be_refused() -> None:
    script = ALONE.replace("from convsurgeon.__main__ import main", "import torch")
    command = [sys.executable, "-c", script, "typer,rich", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)

    assert "torch is not declared" in result.stderr
