"""Standard streams that are closed, full or left: the exit code stays true, and no file is harmed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli_helpers import EMBED, Ran, listing, model_file, python

CLOSED = ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"]
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
TEXTS = [["--help"], ["--version"], ["explain"], ["explain", "CS070"], ["scan", "--help"], []]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return model_file(tmp_path / "model.safetensors")


def shell(arguments: Sequence[object], streams: str) -> Ran:
    """Run a command with its streams as a shell gives them."""
    code = f'exec "$@" {streams}'
    line = ["sh", "-c", code, "sh", sys.executable, "-m", "convsurgeon", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    return Ran(done.returncode, done.stdout, done.stderr)


def bits(model: Path, *more: str) -> list[object]:
    return ["swap", model, *EMBED, "--verify", "bits", *more]


@pytest.mark.parametrize("streams", CLOSED)
@pytest.mark.parametrize("in_place", [False, True], ids=["new file", "in place"])
def test_closed_streams(model: Path, streams: str, *, in_place: bool) -> None:
    """The number of a closed stream is not that of an output."""
    path = model if in_place else model.with_name("model.linear.safetensors")
    expected = model_file(model.with_name("twin") / model.name)
    assert shell(bits(expected, *["--in-place"] * in_place), "").code == 0
    ran = shell(bits(model, "--quiet", *["--in-place"] * in_place), streams)
    assert ran == (0, "", "")
    assert path.read_bytes() == expected.with_name(path.name).read_bytes()
    assert shell(["verify", path, "--bits", "--quiet"], streams) == (0, "", "")


@pytest.mark.parametrize("more", [(), ("--json",)], ids=["text", "json"])
def test_a_report_on_a_closed_stdout(model: Path, more: tuple[str, ...]) -> None:
    ran = shell(bits(model, *more), ">&-")
    assert (ran.code, ran.out, ran.err.count("\n")) == (4, "", 1)
    assert ran.err.startswith("convsurgeon: stdout: the work is done, but its report cannot be")
    assert model.with_name("model.linear.safetensors").exists()
    assert shell(bits(model, *more, "--force"), "<&- >&- 2>&-").code == 4


@pytest.mark.parametrize("to", [">&-", pytest.param(">/dev/full", marks=FULL)])
def test_no_stays_no(model: Path, to: str) -> None:
    assert shell(bits(model), "").code == 0
    swapped = model.with_name("model.linear.safetensors")
    assert shell(["verify", swapped, model, "--bits"], "").code == 1
    ran = shell(["verify", swapped, model, "--bits"], to)
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    report = model.with_name("gone") / "r.json"
    ran = shell(["verify", swapped, model, "--bits", "--report", report], "")
    assert (ran.code, ran.out, ran.err.count("\n")) == (1, "", 1)
    assert shell(["scan", "absent", "missing"], to).code == 3
    assert shell(["verify", model, model, "--bits"], to).code == 4


REFUSALS = [(["scan", "absent"], 3), (["scan", "--wrong"], 2), (["verify", "absent"], 3)]


@pytest.mark.parametrize(("arguments", "code"), REFUSALS, ids=lambda value: str(value)[-10:])
@pytest.mark.parametrize("more", [(), ("--json",)], ids=["text", "json"])
@pytest.mark.parametrize("to", ["&-", pytest.param("/dev/full", marks=FULL)])
def test_a_refusal_keeps_its_code(
    arguments: list[str], code: int, more: tuple[str, ...], to: str
) -> None:
    ran = shell([*arguments, *more], f">{to}")
    assert (ran.code, ran.out, ran.err.count("\n")) == (code, "", 1)
    ran = shell([*arguments, *more], f"2>{to}")
    assert (ran.code, ran.err) == (code, "")
    assert (json.loads(ran.out)["errors"] != []) if more else ran.out == ""


@FULL
@pytest.mark.parametrize("arguments", TEXTS, ids=str)
def test_a_text_that_cannot_be_written(arguments: list[str]) -> None:
    ran = shell(arguments, ">/dev/full")
    if arguments:
        assert (ran.code, ran.err.count("\n")) == (4, 1)
        assert ran.err.startswith("convsurgeon: stdout: ")
    assert "Traceback" not in ran.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["scan", "MODEL"], 0),
        (["scan", "MODEL", "--json"], 0),
        (["verify", "MODEL", "MODEL", "--bits"], 0),
        (["scan", "absent", "--json"], 3),
        *((text, 0) for text in TEXTS[:-1]),
    ],
    ids=str,
)
def test_a_reader_who_leaves(arguments: list[str], code: int, model: Path) -> None:
    """No exit code of 1, which says that files are not equivalent."""
    reading, writing = os.pipe()
    os.close(reading)
    line = [str(model) if word == "MODEL" else word for word in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "convsurgeon", *line],
        stdout=writing, stderr=subprocess.PIPE, check=False,
    )  # fmt: skip
    os.close(writing)
    assert done.returncode == code
    assert done.stderr.count(b"\n") == (code != 0)


def test_code_that_exits_is_no_answer(model: Path) -> None:
    """Whatever stands in the way of an answer, the exit code is none of the answers."""
    code = (
        "import sys, convsurgeon.api.verifying\n"
        "convsurgeon.api.verifying.verify = lambda *_, **__: sys.exit(0)\n"
        "from convsurgeon.__main__ import main\n"
        "main()\n"
    )
    before = listing(model.parent)
    ran = python(code, "verify", model, model)
    assert (ran.code, ran.out) == (3, "")
    assert "CS091" in ran.err
    assert listing(model.parent) == before
