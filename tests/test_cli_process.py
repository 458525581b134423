"""What only a process shows: imports, signals, encodings, a reader that leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli_helpers import EMBED, listing, model_file, process, python

# Imports the command line as `convsurgeon` does, runs it, and tells what was loaded.
LOADED = """
import sys
sys.argv[0] = "convsurgeon"
from convsurgeon.__main__ import main
try:
    main()
except SystemExit as end:
    code = end.code
heavy = sorted(m for m in ("torch", "numpy", "transformers", "safetensors") if m in sys.modules)
print(code, heavy, file=sys.stderr)
"""


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return model_file(tmp_path / "model.safetensors")


def test_help_and_scan_import_nothing_heavy(model: Path) -> None:
    (model.parent / "config.json").write_text('{"model_type": "vit", "patch_size": 2}')
    for arguments in (["--help"], ["scan", model], ["scan", model, "--json"], ["explain", "CS001"]):
        ran = python(LOADED, *arguments)
        assert ran.err == "0 []\n"
        assert ran.out


def test_swap_of_bits_and_restore_import_nothing_heavy(model: Path) -> None:
    assert python(LOADED, "swap", model, *EMBED, "--verify", "bits").err == "0 []\n"
    swapped = model.with_name("model.linear.safetensors")
    assert python(LOADED, "restore", swapped).err == "0 []\n"


def test_ascii_output(model: Path) -> None:
    ran = process("swap", model, *EMBED, "--verify", "bits", PYTHONIOENCODING="ascii")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.isascii()
    assert "embed" in ran.out


def test_a_surrogate_in_a_path(model: Path) -> None:
    ran = process("scan", os.fsdecode(os.fsencode(model) + b"\xff"))
    assert ran.code == 3
    assert r"\udcff" in ran.err


def sparse_file(path: Path, gigabytes: int) -> Path:
    """A file whose data is a hole: large to read and to copy, small on disk."""
    size = gigabytes << 30
    entries = {
        "embed.proj.weight": {"dtype": "F32", "shape": [8, 3, 2, 2], "data_offsets": [0, 384]},
        "rest": {"dtype": "U8", "shape": [size], "data_offsets": [384, 384 + size]},
    }
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + 384 + size)
    return path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=str)
def test_an_interrupted_swap_leaves_nothing(number: signal.Signals, tmp_path: Path) -> None:
    path = sparse_file(tmp_path / "model.safetensors", 4)
    command = [sys.executable, "-m", "convsurgeon", "swap", str(path), *EMBED]
    out = tmp_path / "new" / "out.safetensors"
    with subprocess.Popen(
        [*command, "--verify", "bits", "-o", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as run:
        deadline = time.monotonic() + 20
        while not list(tmp_path.glob("new/.*")) and time.monotonic() < deadline:
            time.sleep(0.005)
        assert run.poll() is None
        run.send_signal(number)
        stdout, stderr = run.communicate(timeout=30)
    assert run.returncode == 130
    assert stdout == b""
    assert stderr == b"convsurgeon: interrupted; nothing half-written remains\n"
    assert [p.name for p in tmp_path.rglob("*")] == ["model.safetensors"]


def test_a_defect_is_one_line_too(model: Path) -> None:
    code = (
        "import sys, convsurgeon.api.scanning\n"
        "def broken(*_, **__): raise ZeroDivisionError('\\x1b[31m')\n"
        "convsurgeon.api.scanning.scan = broken\n"
        "from convsurgeon.__main__ import main\n"
        "main()\n"
    )
    before = listing(model.parent)
    ran = python(code, "scan", model)
    assert (ran.code, ran.out) == (3, "")
    assert ran.err.count("\n") == 1
    assert "CS091" in ran.err
    assert r"\x1b[31m" in ran.err
    assert listing(model.parent) == before


START = "import sys\nsys.modules['convsurgeon.cli'] = None\n"
LIMIT = """
import builtins
real = builtins.__import__
def limited(name, *rest):
    if name == 'convsurgeon.cli':
        raise ImportError('cannot allocate memory')
    return real(name, *rest)
builtins.__import__ = limited
"""
RUN = """
import convsurgeon.api.scanning
def broken(*_, **__): raise MemoryError
convsurgeon.api.scanning.scan = broken
"""


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (START, "None in sys.modules [CS037]; install convsurgeon again"),
        (LIMIT, "cannot allocate memory [CS037]; raise the limits of the system"),
        (RUN, "not enough memory"),
    ],
)
def test_too_little_memory_is_no_defect_and_no_answer(lines: str, words: str, model: Path) -> None:
    ran = python(f"{lines}\nfrom convsurgeon.__main__ import main\nmain()\n", "scan", model)
    assert (ran.code, ran.out, ran.err.count("\n")) == (3, "", 1)
    assert words in ran.err
    assert "[CS037]" in ran.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_report_that_cannot_be_shown_does_not_undo_the_work(model: Path) -> None:
    command = [sys.executable, "-m", "convsurgeon", "swap", str(model), *EMBED]
    command += ["--verify", "bits"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 4
    (line,) = done.stderr.splitlines()
    assert line.startswith("convsurgeon: stdout: the work is done, but its report cannot be")
    assert "[CS071]" in line
    assert model.with_name("model.linear.safetensors").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
@pytest.mark.parametrize(("arguments", "code"), [(["absent"], 3), (["--wrong"], 2)], ids=str)
def test_an_error_that_nobody_can_be_told_keeps_its_code(arguments: list[str], code: int) -> None:
    command = [sys.executable, "-m", "convsurgeon", "scan", *arguments]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, check=False)
    assert (done.returncode, done.stdout) == (code, b"")
