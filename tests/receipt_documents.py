"""Receipts for tests: real documents, one that has every field, and ways to edit them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import convsurgeon as cs
from convsurgeon.proof import Digest, Drift, ModelInput, ModelVerdict, ReceiptCheck, Verdict
from convsurgeon.proof.receipt import KINDS, Kind
from tests.cli_helpers import document, invoke
from tests.proof_pairs import Case, build

Document = dict[str, Any]
CASE = Case((8, 3, 2, 2), layout="p1 p2 c")
MODEL = ModelVerdict(
    source="timm: Made",
    how="convsurgeon.load",
    refused=("head.weight is made up",),
    inputs=(ModelInput("x", (1, 3, 4, 4), "float32"),),
    dtype="float32",
    seed=1,
    perturbations=8,
    outputs=(Drift("", (1, 10), 1e-7, 2e-7, 3.0),),
    layers=(Drift("proj", (1, 8, 2, 2), 1e-7, 2e-7, 3.0), Drift("head", (1, 10), 0.0, 0.0, 1.0)),
    notes=("output mask is a bool and is not compared",),
)
"""Every field filled."""
ASKED: Document = {
    "original": "a.safetensors",
    "swapped": "b.safetensors",
    "function": True,
    "exhaustive": True,
    "input": ["1x3x4x4"],
    "input_file": "batch.safetensors",
    "loader": "timm",
    "dtype": "float64",
    "geometry": ["proj=s2"],
    "input_shape": ["fc=3x4x4"],
    "method": "1x1",
    "layers": ["proj"],
    "model": "model.py:build",
    "evidence": "model",
    "require_evidence": "config",
    "key": "model",
}
"""Everything that a call may ask for, together."""


def as_json(verdict: Verdict) -> Document:
    """What a reader of the document gets."""
    found: Document = json.loads(json.dumps(verdict.to_json()))
    return found


def full(original: Path, swapped: Path) -> Document:
    """A real document, with every field that there is."""
    verdict = cs.verify(original, swapped, keep=True)
    (file,) = verdict.files
    assert file.digests
    beside = Digest("a.safetensors.convsurgeon.json", 9, "ab" * 32)
    digests = tuple(replace(one, sidecar=beside) for one in file.digests)
    files = (replace(file, renamed=(("a.weight", "a.linear.weight"),), digests=digests),)
    whole = replace(
        verdict,
        files=files,
        models=(MODEL,),
        asked=ASKED,
        notes=("a note",),
        receipt=ReceiptCheck("r", 1),
    )
    return as_json(whole)


class Leaf(NamedTuple):
    """One field of a document that holds no others in `KINDS`."""

    name: str
    steps: tuple[str | int, ...]
    kind: Kind

    @property
    def place(self) -> str:
        """As a line about it begins."""
        parts = (f"[{s}]" if isinstance(s, int) else f".{s}" for s in self.steps)
        return "".join(parts).removeprefix(".")


def leaves(value: Any, name: str = "", steps: tuple[str | int, ...] = ()) -> Iterator[Leaf]:
    """Yield every field; one that `KINDS` does not know raises KeyError."""
    below = any(other.startswith((f"{name}.", f"{name}[]")) for other in KINDS) or not name
    if below and isinstance(value, dict):
        for key, one in value.items():
            yield from leaves(one, f"{name}.{key}".lstrip("."), (*steps, key))
    elif below and isinstance(value, list):
        for number, one in enumerate(value):
            yield from leaves(one, f"{name}[]", (*steps, number))
    else:
        yield Leaf(name, steps, KINDS[name])


def at(whole: Document, steps: tuple[str | int, ...]) -> Any:
    """The value at a place."""
    found: Any = whole
    for step in steps:
        found = found[step]
    return found


def put(whole: Document, steps: tuple[str | int, ...], value: Any) -> Document:
    """A copy with another value at a place."""
    copy = deepcopy(whole)
    at(copy, steps[:-1])[steps[-1]] = value
    return copy


def drop(whole: Document, steps: tuple[str | int, ...]) -> Document:
    """A copy without a field."""
    copy = deepcopy(whole)
    del at(copy, steps[:-1])[steps[-1]]
    return copy


def other(value: Any) -> Any:
    """Another value of the same type, as near as can be."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value * (1 + 2**-50) or 5e-324
    if isinstance(value, str):
        return value[:-1] if value else "x"
    if isinstance(value, list):
        return value[:-1] or ["x"]
    return "x"


def working_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to a folder with an original, its swapped file and the receipt about both."""
    (folder / ".git").mkdir()  # no search for a configuration goes further up
    monkeypatch.chdir(folder)
    original, swapped = build(folder / "built", CASE)
    original.rename("a.safetensors")
    swapped.rename("b.safetensors")
    (folder / "built").rmdir()
    keep("a.safetensors", "b.safetensors")
    return folder


def keep(*arguments: object, name: str = "r.json", code: int = 0) -> Document:
    """Verify, and keep the document."""
    ran = invoke("verify", *arguments, "--report", name)
    assert ran.code == code, ran
    found: Document = json.loads(Path(name).read_text("utf-8"))
    return found


def again(*arguments: object, receipt: object = "r.json", code: int = 0) -> Document:
    """Do it again; return what was found of the receipt."""
    found_code, found = document("verify", "--receipt", receipt, *arguments)
    assert found_code == code, found
    checked: Document = found["receipt"]
    assert found["equivalent"] is (code == 0)
    assert checked["path"] == str(receipt)
    return checked


def edit(steps: tuple[str | int, ...], value: Any, name: str = "r.json") -> None:
    """Put another value into a receipt."""
    path = Path(name)
    path.write_text(json.dumps(put(json.loads(path.read_text("utf-8")), steps, value)))


def refused(*arguments: object, receipt: object = "r.json", code: int) -> str:
    """Do it again; return the one line of the refusal."""
    ran = invoke("verify", "--receipt", receipt, *arguments)
    assert (ran.code, ran.out) == (code, ""), ran
    assert ran.err.count("\n") == 1
    assert ran.err[:-1].isprintable()
    return ran.err
