"""`verify --receipt`: files that are the same, that moved, that are others; what is shown."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import convsurgeon as cs
from convsurgeon.api.receipts import verify_again
from convsurgeon.errors import NotEquivalentError
from convsurgeon.store import sidecar_of
from tests.cli_helpers import EMBED, NASTY, invoke, model_file, model_shards, read
from tests.in_place_cases import swap_in_place
from tests.proof_pairs import BIAS, change, flip
from tests.receipt_documents import again, drop, edit, keep, refused, working_folder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return working_folder(tmp_path, monkeypatch)


# --- Yes


def test_the_same_files_agree(folder: Path) -> None:
    found = again()
    assert (found["differences"], found["remarks"]) == ([], [])
    assert found["agreed"] > 50


def test_from_another_working_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    found = again(receipt="../r.json")
    assert found["differences"] == []
    remark = 'asked.original: "a.safetensors" in the receipt, "../a.safetensors" now'
    assert remark in found["remarks"]


def test_the_working_folder_goes_before_that_of_the_receipt(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = folder / "other"
    other.mkdir()
    for name in ("a.safetensors", "b.safetensors"):
        shutil.copy(name, other)
    damage(other / "b.safetensors")
    monkeypatch.chdir(other)
    assert again(receipt="../r.json", code=1)["differences"]


def test_files_that_were_moved_and_renamed(folder: Path) -> None:
    Path("moved").mkdir()
    Path("a.safetensors").rename("moved/before.safetensors")
    Path("b.safetensors").rename("moved/after.safetensors")
    line = refused(code=3)
    assert "a.safetensors: the receipt names it, and neither" in line
    assert "[CS030]; name the files: convsurgeon verify --receipt FILE.json ORIGINAL" in line
    found = again("moved/before.safetensors", "moved/after.safetensors")
    assert found["differences"] == []
    names = [line.partition(":")[0] for line in found["remarks"]]
    assert names == [
        "asked.original",
        "asked.swapped",
        "files[0].original",
        "files[0].swapped",
        "files[0].digests[0].name",
    ]
    assert found["remarks"][-1].endswith("; and 1 more")


def test_a_receipt_about_one_file_alone(folder: Path) -> None:
    keep("b.safetensors", name="alone.json")
    assert again(receipt="alone.json")["differences"] == []
    assert again("b.safetensors", receipt="alone.json")["differences"] == []
    change(Path("b.safetensors"), lambda weight: weight[::-1])
    found = again("mutant.safetensors", receipt="alone.json", code=1)
    assert "files[0].layers[0].bits.equal: true in the receipt, false now" in found["differences"]
    assert "the receipt is about 1 of them, the call names 2" in refused(
        "a.safetensors", "b.safetensors", receipt="alone.json", code=2
    )
    assert "the receipt is about 2 of them, the call names 1" in refused("a.safetensors", code=2)


def test_a_receipt_made_with_bits(folder: Path) -> None:
    made = keep("a.safetensors", "b.safetensors", "--bits", name="bits.json")
    assert made["environment"]["torch"] == ""
    found = again(receipt="bits.json")
    assert (found["differences"], found["remarks"]) == ([], [])
    assert again("--bits", receipt="bits.json")["differences"] == []
    assert "--bits: the receipt was made without it" in refused("--bits", code=2)


def test_a_folder_with_shards(folder: Path) -> None:
    model_shards(folder / "m")
    assert invoke("swap", "m", *EMBED).code == 0
    assert len(keep("m", "m.linear", name="m.json")["files"]) == 2
    assert again(receipt="m.json")["differences"] == []


MODEL = """
import torch
from torch import nn

def build():
    model = nn.Module()
    model.before, model.after = nn.Linear(6, 4, bias=False), nn.Module()
    model.proj = nn.Conv2d(3, 8, 2, 2)
    model.after.register_buffer("count", torch.zeros(3, dtype=torch.int64))
    model.forward = lambda x: model.proj(x)
    return model
"""


def test_a_whole_model(folder: Path) -> None:
    Path("model.py").write_text(MODEL)
    options = ("--model", "model.py:build", "--input", "x=2x3x4x4", "--dtype", "float64")
    made = keep("a.safetensors", "b.safetensors", *options)
    (model,) = made["models"]
    assert [output["shape"] for output in model["outputs"]] == [[2, 8, 2, 2]]
    found = again(*options[:2])
    assert (found["differences"], found["remarks"]) == ([], [])
    edit(("asked", "input"), ["x=1x3x4x4"])
    places = [line.partition(":")[0] for line in again(*options[:2], code=1)["differences"]]
    assert places[:2] == ["models[0].inputs[0].shape", "models[0].outputs[0].shape"]


def test_a_verification_again_is_a_receipt_too(folder: Path) -> None:
    ran = invoke("verify", "--receipt", "r.json", "--report", "second.json")
    assert ran.code == 0
    assert json.loads(Path("second.json").read_text("utf-8"))["receipt"]["path"] == "r.json"
    found = again(receipt="second.json")
    assert (found["differences"], found["remarks"]) == ([], [])


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_another_number_of_threads(folder: Path, threads: Callable[[int], None]) -> None:
    made = json.loads(Path("r.json").read_text("utf-8"))["environment"]["threads"]
    threads(made + 1)
    found = again()
    assert found["differences"] == []
    assert f"environment.threads: {made} in the receipt, {made + 1} now" in found["remarks"]


def test_another_environment_and_other_figures(folder: Path) -> None:
    edit(("environment", "torch"), "1.0")
    edit(("environment", "system"), "Plan9 riscv64")
    edit(("files", 0, "layers", 0, "floats", "after", "rms"), 1e-9)
    found = again()
    assert found["differences"] == []
    names = [line.partition(":")[0] for line in found["remarks"]]
    assert names == [
        "files[0].layers[0].floats.after.rms",
        "environment.torch",
        "environment.system",
    ]


# --- No


def damage(path: Path, key: str = "after.count") -> None:
    """Change one byte of a tensor that no swap touches, where it stands."""
    data = read(path)[0][key].data
    content = bytearray(path.read_bytes())
    content[content.index(data, 8 + int.from_bytes(content[:8], "little"))] ^= 1
    path.write_bytes(content)


def test_a_byte_that_changed_in_both_files_alike(folder: Path) -> None:
    for name in ("a.safetensors", "b.safetensors"):
        damage(Path(name), "before.weight")
    # They are equivalent still: nothing but the digests can see it.
    assert cs.verify("a.safetensors", "b.safetensors").equivalent
    found = again(code=1)
    assert [line.partition(":")[0] for line in found["differences"]] == [
        "files[0].digests[0].sha256",
        "files[0].digests[1].sha256",
    ]
    assert found["remarks"] == []


def test_another_swapped_file(folder: Path) -> None:
    assert invoke("swap", "a.safetensors", "--geometry", "proj=s2", "-o", "c.safetensors").code == 0
    assert cs.verify("a.safetensors", "c.safetensors").equivalent
    found = again("a.safetensors", "c.safetensors", code=1)
    assert (
        'files[0].layers[0].given.layout: "p1 p2 c" in the receipt, "c p1 p2" now'
        in found["differences"]
    )


def test_a_damaged_swapped_file(folder: Path) -> None:
    flip(Path("b.safetensors"), BIAS, 3)
    found = again("a.safetensors", "mutant.safetensors", code=1)
    assert "equivalent: true in the receipt, false now" in found["differences"]


@pytest.fixture
def sidecar(folder: Path) -> Path:
    """A file that was rewritten in place, its original, and the receipts about them."""
    original = model_file(folder / "old.safetensors")
    shutil.copy(original, "new.safetensors")
    swap_in_place(Path("new.safetensors"))
    keep(original.name, "new.safetensors", name="both.json")
    keep("new.safetensors", name="alone.json")
    keep("new.safetensors", "new.safetensors", name="twice.json")
    return sidecar_of(Path("new.safetensors"))


def digests(receipt: str) -> list[dict[str, Any] | None]:
    found = json.loads(Path(receipt).read_text("utf-8"))["files"][0]["digests"]
    return [one["sidecar"] for one in found]


def test_a_sidecar_is_digested_where_it_is_used(sidecar: Path) -> None:
    data = sidecar.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    beside = {"name": sidecar.name, "bytes": len(data), "sha256": sha256}
    assert digests("both.json") == [None, beside]
    assert digests("alone.json") == [beside]
    assert digests("twice.json") == [beside, beside]
    assert sha256 in invoke("verify", "--receipt", "both.json", columns=200).out
    Path("link.safetensors").symlink_to("new.safetensors")
    for receipt, names in (("both.json", ["old.safetensors"]), ("alone.json", [])):
        found = again(*names, "link.safetensors", receipt=receipt)
        assert found["differences"] == []


def test_a_sidecar_that_changed(sidecar: Path) -> None:
    """Nothing but its digest can see it: `restore` would write under another name."""
    text = sidecar.read_text("utf-8")
    edited = text.replace('"new.safetensors"', '"odd.safetensors"')
    assert edited != text
    sidecar.write_text(edited, "utf-8")
    for receipt, count in (("both.json", 1), ("alone.json", 1), ("twice.json", 2)):
        found = again(receipt=receipt, code=1)
        assert len(found["differences"]) == count
        assert all(".sidecar.sha256: " in line for line in found["differences"])


def test_copies_of_a_file_and_its_sidecar(sidecar: Path) -> None:
    Path("c.safetensors").write_bytes(Path("new.safetensors").read_bytes())
    shutil.copy(sidecar, sidecar_of(Path("c.safetensors")))
    assert again("c.safetensors", receipt="alone.json")["differences"] == []
    edit(("files", 0, "digests", 0, "sidecar"), None, name="alone.json")
    assert again("c.safetensors", receipt="alone.json", code=1)["differences"] == [
        "files[0].digests[0].sidecar: null in the receipt, an object now"
    ]


def test_a_receipt_from_before_sidecars_were_digested(sidecar: Path) -> None:
    path = Path("both.json")
    earlier = json.loads(path.read_text("utf-8"))
    for place in (0, 1):
        earlier = drop(earlier, ("files", 0, "digests", place, "sidecar"))
    path.write_text(json.dumps(earlier), "utf-8")
    found = again(receipt="both.json")
    assert (found["differences"], found["remarks"]) == (
        [],
        ["files[0].digests[1].sidecar: nothing in the receipt, an object now"],
    )


@pytest.mark.parametrize(
    ("steps", "value"),
    [
        (("files", 0, "layers", 0, "bits", "elements"), 97),
        (("files", 0, "layers", 0, "given", "geometry", "stride"), [2, 1]),
        (("files", 0, "layers", 0, "given", "evidence", "level"), "config"),
        (("files", 0, "layers", 0, "function", "probes", "tried"), 11),
        (("files", 0, "other_tensors"), 4),
        (("sampled",), True),
        (("files", 0, "layers"), []),
        (("files", 0, "layers", 0, "function"), None),
        (("approved",), "by a notary"),
    ],
    ids=str,
)
def test_an_edited_fact(folder: Path, steps: tuple[str | int, ...], value: Any) -> None:
    edit(steps, value)
    (difference,) = again(code=1)["differences"]
    assert str(steps[-1]) in difference


def test_a_refutation_is_found_again_and_stays_one(folder: Path) -> None:
    change(Path("b.safetensors"), lambda weight: weight[::-1])
    keep("a.safetensors", "mutant.safetensors", name="no.json", code=1)
    found = again(receipt="no.json", code=1)
    assert (found["differences"], found["remarks"]) == ([], [])
    ran = invoke("verify", "--receipt", "no.json")
    assert ran.code == 1
    assert f"{found['agreed']} facts as in no.json" in ran.out
    assert ran.out.endswith("not equivalent\n")
    # A receipt that was made to say yes does not help it.
    edit(("equivalent",), value=True, name="no.json")
    found = again(receipt="no.json", code=1)
    assert found["differences"] == ["equivalent: true in the receipt, false now"]


def test_the_verdict_has_to_be_asked(folder: Path) -> None:
    edit(("scope",), "rewritten")
    verdict = verify_again("r.json")
    assert verdict.complaints == ('scope: "rewritten" in the receipt, "file" now',)
    with pytest.raises(NotEquivalentError, match="CS083"):
        verdict.require()


def test_a_sampled_proof_is_not_enough_under_strict(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("convsurgeon.proof.probes.AFFORDABLE", 1)
        keep("a.safetensors", "b.safetensors", name="sampled.json")
        assert invoke("verify", "--receipt", "sampled.json").code == 0
        assert invoke("verify", "--receipt", "sampled.json", "--strict").code == 4
    found = again(receipt="sampled.json", code=1)
    assert "sampled: true in the receipt, false now" in found["differences"]


# --- What is shown


def test_both_views_name_what_differs(folder: Path) -> None:
    edit(("files", 0, "layers", 0, "key"), "".join(NASTY))
    edit(("environment", "system"), NASTY[0] + NASTY[1])
    ran = invoke("verify", "--receipt", "r.json", "--report", "out.md", columns=500)
    assert ran.code == 1
    assert "otherwise than in the receipt: files[0].layers[0].key: " in ran.out
    assert "environment.system: " in ran.out
    assert "facts as in r.json" in ran.out
    markdown = Path("out.md").read_text("utf-8")
    assert markdown.startswith("## not equivalent\n")
    assert r"- otherwise than in the receipt: files\[0\].layers\[0\].key: " in markdown
    for text in (ran.out, markdown):
        assert all(line.isprintable() for line in text.split("\n"))
        assert "\\u001b[31mred" in text.replace("\\\\", "\\").replace("\\[", "[")
