"""`verify --receipt` of what anybody may have written: refused in one line, and nothing is run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from convsurgeon.api import receipts
from convsurgeon.api.receipts import verify_again
from convsurgeon.errors import UnreadableError, UsageError
from tests.cli_helpers import NASTY, document
from tests.receipt_documents import again, edit, keep, put, refused, working_folder

SCHEMA = '{"schema": "convsurgeon.verify/1"'
BAD_BYTES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it is no JSON"),
    "no JSON": (b"\x89PNG\r\n", "is not UTF-8"),
    "half": (SCHEMA.encode(), "it is no JSON"),
    "a list": (b"[]", "it is no JSON object"),
    "a text": (b'"x"', "it is no JSON object"),
    "deep": (b'{"a":' * 100_000, "it is nested too deeply"),
    "a number without end": (b'{"a": ' + b"9" * 5000 + b"}", "a number has more than 40"),
    "a key twice": (b'{"a\x7f": 1, "b": 2, "a\x7f": 3}', "stands twice"),
    "another schema": (b'{"schema": "convsurgeon.scan/1"}', "its schema is not convsurgeon.verify"),
    "no schema": (b"{}", "its schema is not"),
    "a call that failed": (f'{SCHEMA}, "files": [], "errors": []}}'.encode(), "it is from failed"),
    "nothing else": (f"{SCHEMA}}}".encode(), "asked is no object"),
}
BAD_VALUES: list[tuple[tuple[str | int, ...], Any]] = [
    (("asked",), []),
    (("asked",), None),
    (("environment",), None),
    (("environment",), []),
    (("files",), {}),
    (("files", 0), []),
    (("models",), [[]]),
    (("models",), "x"),
    (("asked", "function"), 1),
    (("asked", "function"), None),
    (("asked", "original"), None),
    (("asked", "original"), ""),
    (("asked", "original"), ["a.safetensors"]),
    (("asked", "swapped"), 0),
    (("asked", "swapped"), {}),
    (("asked", "geometry"), "proj=s2"),
    (("asked", "geometry"), [1]),
    (("asked", "geometry"), {"proj": "s2"}),
    (("asked", "geometry"), ["\x1b[31m"]),
    (("asked", "input_shape"), ["proj=2y2"]),
    (("asked", "method"), ["1x1"]),
    (("asked", "method"), "2x2"),
    (("asked", "layers"), "proj"),
    (("asked", "input"), "1x3x4x4"),
    (("asked", "input"), ["1x3x4x4"]),
    (("asked", "dtype"), 16),
    (("asked", "dtype"), "float64"),
    (("asked", "exhaustive"), "yes"),
    (("asked", "exhaustive"), 1),
    (("asked", "require_evidence"), "hearsay"),
    (("asked", "key"), {"model": 1}),
    (("asked", "model"), ["x"]),
    (("asked", "loader"), True),
]
BAD_PATHS = [
    "gone.safetensors",
    "a\x00b",
    "\ud800",
    "x" * 5000,
    *NASTY,
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return working_folder(tmp_path, monkeypatch)


@pytest.mark.parametrize("case", BAD_BYTES)
def test_bytes_that_are_no_receipt(folder: Path, case: str) -> None:
    content, why = BAD_BYTES[case]
    Path("r.json").write_bytes(content)
    line = refused(code=3)
    assert line.startswith("convsurgeon: r.json: the receipt cannot be used: ")
    assert why in line
    assert "[CS085]" in line


@pytest.mark.parametrize(("steps", "value"), BAD_VALUES, ids=str)
def test_values_that_no_receipt_has(folder: Path, steps: tuple[str | int, ...], value: Any) -> None:
    edit(steps, value)
    line = refused(code=3)
    assert line.startswith("convsurgeon: r.json: ")
    assert "[CS085]" in line


@pytest.mark.parametrize("side", ["original", "swapped"])
@pytest.mark.parametrize("name", BAD_PATHS, ids=ascii)
def test_names_of_no_file(folder: Path, name: str, side: str) -> None:
    edit(("asked", side), name)
    assert "[CS030]; name the files" in refused(code=3)


def test_a_receipt_that_is_no_file(folder: Path) -> None:
    os.mkfifo("pipe.json")
    (folder / "folder.json").mkdir()
    assert "it is no regular file" in refused(receipt="pipe.json", code=3)
    assert "[CS085]" in refused(receipt="folder.json", code=3)
    assert "No such file" in refused(receipt="gone.json", code=3)


def test_a_receipt_of_any_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = Path("r.json").stat().st_size
    monkeypatch.setattr(receipts, "MAX_BYTES", size)
    assert again()["differences"] == []
    monkeypatch.setattr(receipts, "MAX_BYTES", size - 1)
    assert f"it has more than {size - 1} bytes" in refused(code=3)


def test_depth_that_can_be_read_is_compared(folder: Path) -> None:
    deep: Any = "x"
    for _ in range(50):
        deep = [deep]
    for steps in (("files", 0, "layers", 0, "bits", "note"), ("notes",), ("environment", "torch")):
        Path("deep.json").write_text(
            json.dumps(put(json.loads(Path("r.json").read_text()), steps, deep))
        )
        found = again(receipt="deep.json", code=0 if steps == ("notes",) else 1)
        assert "a list of 1 in the receipt" in (found["differences"] or found["remarks"])[0]


def test_a_file_that_is_no_checkpoint(folder: Path) -> None:
    """A receipt may name any file; it is read as a checkpoint, or not at all."""
    edit(("asked", "original"), "r.json")
    assert "[CS03" in refused(code=3)


def test_under_json_the_refusal_is_a_document(folder: Path) -> None:
    Path("r.json").write_text("{}")
    code, found = document("verify", "--receipt", "r.json")
    assert code == 3
    assert [error["code"] for error in found["errors"]] == ["CS085"]


# --- What a receipt may not set

BAIT = "from pathlib import Path\nPath('ran').touch()\ndef build(): raise RuntimeError\n"
AGAIN = [
    ("model", "bait.py:build", "--model"),
    ("evidence", "model", "--evidence"),
    ("loader", "timm", "--loader"),
    ("input_file", "batch.safetensors", "--input-file"),
]


@pytest.mark.parametrize(("name", "value", "option"), AGAIN, ids=[name for name, *_ in AGAIN])
def test_what_runs_code_or_opens_files_is_given_again(
    folder: Path, name: str, value: str, option: str
) -> None:
    Path("bait.py").write_text(BAIT)
    edit(("asked", name), value)
    line = refused(code=2)
    assert line.startswith(
        f"convsurgeon: r.json: the receipt was made with {option} {value}; give it"
    )
    assert "[CS090]; a receipt by itself runs no code" in line
    assert not Path("ran").exists()


def test_the_bait_would_be_taken(folder: Path) -> None:
    Path("bait.py").write_text(BAIT)
    edit(("asked", "model"), "bait.py:build")
    assert "[CS062]" in refused("--model", "bait.py:build", code=3)
    assert Path("ran").exists()


def test_a_model_that_is_given_again(folder: Path) -> None:
    Path("model.py").write_text(
        "from torch.nn import Conv2d\ndef build(): return Conv2d(3, 8, 2, 2)\n"
    )
    keep("a.safetensors", "b.safetensors", "--model", "model.py:build", name="model.json")
    assert "give it again" in refused(receipt="model.json", code=2)
    found = again("--model", "model.py:build", receipt="model.json")
    assert (found["differences"], found["remarks"]) == ([], [])
    Path("moved").mkdir()
    Path("model.py").rename("moved/model.py")
    found = again("--model", "moved/model.py:build", receipt="model.json")
    assert found["differences"] == []
    (remark,) = found["remarks"]
    assert remark == 'asked.model: "model.py:build" in the receipt, "moved/model.py:build" now'


OTHERWISE = [
    (("--geometry", "proj=s1"), "--geometry: the call says ['proj=s1'], ", "made with ['proj=s2']"),
    (("--layer", "x"), "--layer: the call says ['x'], ", "made without it"),
    (("--exhaustive",), "--exhaustive: the call says True, ", "made without it"),
    (("--bits",), "--bits: ", "made without it"),
    (("--model", "timm:x"), "--model: the call says timm:x, ", "made without it"),
    (("--key", "ema"), "--key: the call says ema, ", "made without it"),
]


@pytest.mark.parametrize(("options", "start", "end"), OTHERWISE, ids=[o[0] for o, *_ in OTHERWISE])
def test_a_choice_that_is_not_the_receipts(
    folder: Path, options: tuple[str, ...], start: str, end: str
) -> None:
    keep("a.safetensors", "b.safetensors", "--geometry", "proj=s2")
    line = refused(*options, code=2)
    assert line.startswith(f"convsurgeon: {start}")
    assert end in line
    assert "[CS090]" in line


def test_the_same_choices_may_be_given_again(folder: Path) -> None:
    options = ("--geometry", "proj=s2", "--exhaustive", "--require-evidence", "user")
    made = keep("a.safetensors", "b.safetensors", *options)
    assert made["asked"] == {
        "original": "a.safetensors",
        "swapped": "b.safetensors",
        "function": True,
        "exhaustive": True,
        "geometry": ["proj=s2"],
        "require_evidence": "user",
    }
    for given in ((), options):
        found = again(*given)
        assert (found["differences"], found["remarks"]) == ([], [])


def test_as_a_function(folder: Path) -> None:
    verdict = verify_again("r.json", geometry=(), exhaustive=False, input=[])
    assert (
        verdict.require().receipt
        == verify_again(Path("r.json"), "a.safetensors", "b.safetensors").receipt
    )
    with pytest.raises(UsageError, match=r"the call says \['a=s2'\]"):
        verify_again("r.json", geometry=("a=s2",))
    with pytest.raises(UnreadableError, match="CS085"):
        verify_again("a.safetensors")


def test_a_configuration_file_may_take_part(folder: Path) -> None:
    """Its limit counts; the receipt of a call without it is not about it."""
    Path("own.toml").write_text("max-header-bytes = 10\n")
    assert "[CS041]" in refused("--config", "own.toml", code=3)
    Path("own.toml").write_text('geometry = ["other=s2"]\n')
    found = again("--config", "own.toml")
    assert found["differences"] == []
    assert found["remarks"] == [
        'notes: [] in the receipt, ["configuration: own.toml (geometry)"] now'
    ]
