"""`--json`: one document with the promised keys on stdout, and nothing else there."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli_helpers import EMBED, document, invoke, model_file, not_json, read, write

FILE = {"path", "tensors", "bytes", "metadata", "layers", "notes"}
LAYER = {
    "module", "key", "file", "form", "weight_shape", "dtype", "bias", "geometry", "evidence",
    "verdict", "code", "reason", "rewrite", "hint",
}  # fmt: skip
GEOMETRY = {"kernel", "stride", "padding", "dilation", "groups"}
REWRITE = {"rule", "to", "weight_shape", "layout", "moves_bytes", "why", "child_keys"}
SWAPPED = {
    *("output", "outcome", "rewritten", "untouched", "seconds", "verdict", "warning"),
    *("linked", "in_place", "fully_convolutional"),
}
PROVED = {
    *("original", "swapped", "equivalent", "scope", "layers"),
    *("other_tensors", "differences", "renamed", "digests"),
}
PROOF = {"module", "key", "equivalent", "from", "to", "given", "bits", "function", "floats"}
FAILURE = {"path", "error", "code", "message"}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return model_file(tmp_path / "model.safetensors")


def test_scan(model: Path) -> None:
    code, scan = document("scan", model, *EMBED)
    assert code == 0
    assert set(scan) == {"schema", "files", "errors"}
    assert (scan["schema"], scan["errors"]) == ("convsurgeon.scan/1", [])
    (file,) = scan["files"]
    assert set(file) == FILE
    assert (file["tensors"], file["bytes"]) == (4, model.stat().st_size)
    embed, stem = file["layers"]
    assert set(embed) == set(stem) == LAYER
    assert set(embed["geometry"]) == GEOMETRY
    assert set(embed["rewrite"]) == REWRITE
    assert set(embed["evidence"]) == {"level", "source"}
    assert (stem["geometry"], stem["evidence"], stem["rewrite"]) == (None, None, None)
    assert (embed["verdict"], stem["verdict"]) == ("eligible", "undecided")


def test_swap_and_its_dry_run(model: Path) -> None:
    _, dry = document("swap", model, *EMBED, "--dry-run")
    code, swap = document("swap", model, *EMBED)
    assert code == 0
    assert set(swap) == {"schema", "files", "errors"}
    assert swap["schema"] == dry["schema"] == "convsurgeon.swap/1"
    (file,), (planned,) = swap["files"], dry["files"]
    assert set(file) == FILE | SWAPPED
    assert (file["rewritten"], file["untouched"]) == (1, 3)
    assert {key: file[key] for key in FILE} == {key: planned[key] for key in FILE}
    assert (planned["outcome"], planned["verdict"]) == ("planned", [])
    (proof,) = file["verdict"]
    assert set(proof) == PROVED
    assert proof["equivalent"] is True
    assert Path(file["output"]).is_file()


def test_verify(model: Path) -> None:
    invoke("swap", model, *EMBED)
    swapped = model.with_name("model.linear.safetensors")
    code, verdict = document("verify", model, swapped)
    assert code == 0
    assert set(verdict) == {
        *("schema", "equivalent", "scope", "sampled", "asked", "files"),
        *("models", "environment", "receipt", "notes"),
    }
    assert verdict["schema"] == "convsurgeon.verify/1"
    assert (verdict["equivalent"], verdict["scope"]) == (True, "file")
    (layer,) = verdict["files"][0]["layers"]
    assert set(layer) == PROOF
    assert set(layer["given"]) == {"geometry", "layout", "evidence"}
    assert set(layer["bits"]) == {"equal", "elements", "differing", "note", "sha256"}
    assert layer["function"]["probes"] == {
        "equal": True, "tried": 12, "places": 12, "differing": 0, "sampled": False,
    }  # fmt: skip
    assert set(layer["floats"]) == {"dtype", "before", "after", "between", "outputs", "ratio"}
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (model, swapped)]
    assert [one["sha256"] for one in verdict["files"][0]["digests"]] == digests
    _, alone = document("verify", swapped)
    assert (alone["equivalent"], alone["scope"]) == (True, "rewritten")
    assert [one["sha256"] for one in alone["files"][0]["digests"]] == digests[1:]
    _, bits = document("verify", model, swapped, "--bits")
    assert bits["files"][0]["layers"][0]["function"] is None


def test_a_refutation(model: Path) -> None:
    invoke("swap", model, *EMBED)
    swapped = model.with_name("model.linear.safetensors")
    tensors, metadata = read(swapped)
    weight = tensors["embed.proj.weight"]
    flipped = bytes([weight.data[0] ^ 1]) + weight.data[1:]
    write(swapped, tensors | {"embed.proj.weight": weight._replace(data=flipped)}, metadata)
    code, verdict = document("verify", model, swapped)
    assert (code, verdict["equivalent"]) == (1, False)
    ran = invoke("verify", model, swapped)
    assert ran.code == 1
    assert "not equivalent" in ran.out
    assert "embed.proj" in ran.out


def test_restore(model: Path) -> None:
    invoke("swap", model, *EMBED)
    code, restore = document("restore", model.with_name("model.linear.safetensors"))
    assert code == 0
    assert restore["schema"] == "convsurgeon.restore/1"
    (file,) = restore["files"]
    assert (file["outcome"], file["layers"]) == ("same", ["embed.proj"])


ERRORS: list[tuple[list[str], int, str, str]] = [
    (["scan", "gone.safetensors"], 3, "convsurgeon.scan/1", "CS030"),
    (["swap", "gone.safetensors"], 3, "convsurgeon.swap/1", "CS030"),
    (["verify", "gone.safetensors"], 3, "convsurgeon.verify/1", "CS030"),
    (["restore", "gone.safetensors"], 3, "convsurgeon.restore/1", "CS030"),
    (["scan", "x", "--only", "some"], 2, "convsurgeon.scan/1", "CS090"),
    (["swap", "--bogus"], 2, "convsurgeon.swap/1", "CS090"),
    (["scan", "x", "--report", "r.doc"], 2, "convsurgeon.scan/1", "CS090"),
]


@pytest.mark.parametrize(("arguments", "code", "schema", "error"), ERRORS, ids=str)
def test_an_error_is_a_document_and_a_line(
    arguments: list[str], code: int, schema: str, error: str
) -> None:
    ran = invoke(*arguments, "--json")
    content: dict[str, Any] = json.loads(ran.out, parse_constant=not_json)
    assert ran.code == code
    assert (content["schema"], content["files"]) == (schema, [])
    (failure,) = content["errors"]
    assert set(failure) == FAILURE
    assert failure["code"] == error
    assert ran.err == f"convsurgeon: {failure['message']}\n"


def test_errors_of_a_batch_stand_in_the_document_and_on_stderr(model: Path) -> None:
    ran = invoke("swap", model, model.with_name("gone.safetensors"), *EMBED, "--json")
    content = json.loads(ran.out)
    assert ran.code == 4
    assert (len(content["files"]), len(content["errors"])) == (1, 1)
    assert ran.err == f"convsurgeon: {content['errors'][0]['message']}\n"


@pytest.mark.parametrize("beside", ["x.safetensors.index.json", "x.safetensors.convsurgeon.json"])
def test_a_report_never_replaces_an_index_or_a_recipe(beside: str, model: Path) -> None:
    path = model.with_name(beside)
    path.write_text("{}", "utf-8")
    code, failed = document("swap", model, *EMBED, "--report", path)
    assert (code, [error["code"] for error in failed["errors"]]) == (2, ["CS090"])
    assert path.read_text("utf-8") == "{}"
    assert not model.with_name("model.linear.safetensors").exists()


def test_a_report_that_cannot_be_written_leaves_one_document(model: Path) -> None:
    ran = invoke("scan", model, "--json", "--report", model / "r.json")
    content = json.loads(ran.out)
    assert ran.code == 4
    assert content["errors"][0]["code"] == "CS071"
