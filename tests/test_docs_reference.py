"""The reference against what it describes: commands, options, codes, JSON documents."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from torch import nn
from typer.testing import CliRunner

import convsurgeon as cs
from convsurgeon.cli import app
from convsurgeon.codes import codes
from convsurgeon.header import header_length, parse
from convsurgeon.plan import METADATA_KEY
from convsurgeon.sources.catalogue import table as packed
from convsurgeon.sources.expressions import Lookup
from convsurgeon.sources.expressions import fields as named_in
from tests.dense_cases import Excited
from tests.files import checkpoint, index_of
from tests.timing_cases import conv1d_file

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
SAMPLES = ROOT / "sample_checkpoints"
GENERATOR = ROOT / "tools" / "reference.py"
FREE_KEYS = ("files[].metadata", "asked")
TYPES: dict[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
    type(None): "null",
}
COMMANDS: Mapping[str, Any] = vars(typer.main.get_command(app))["commands"]
OPTIONS = [
    (name, option)
    for name, command in COMMANDS.items()
    for parameter in command.params
    for option in parameter.opts
    if option.startswith("-") and parameter.name != "help"
]

Table = dict[str, str]


def generate(*arguments: str, path: Path = GENERATOR) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_generated_pages_are_current() -> None:
    done = generate("--check")
    assert done.returncode == 0, f"run: python tools/reference.py\n{done.stdout}{done.stderr}"


def test_a_stale_page_is_seen(tmp_path: Path) -> None:
    copy = tmp_path / "tools" / "reference.py"
    copy.parent.mkdir()
    for name in ("reference.py", "architectures.py", "compatibility.py"):
        shutil.copy(GENERATOR.with_name(name), copy.parent)
    shutil.copytree(REFERENCE, tmp_path / "docs" / "reference")
    with (tmp_path / "docs" / "reference" / "codes.md").open("a", encoding="utf-8") as page:
        page.write("one line too many\n")
    done = generate("--check", path=copy)
    assert (done.returncode, done.stdout) == (1, "stale: docs/reference/codes.md\n")
    assert generate(path=copy).returncode == 0
    assert generate("--check", path=copy).returncode == 0


def page(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def command_section(command: str) -> str:
    return page("cli.md").split(f"## convsurgeon {command}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_section(command: str) -> None:
    assert command_section(command).strip()


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_every_option_has_a_row(command: str, option: str) -> None:
    assert re.search(rf"^\|.*`{option}[ `]", command_section(command), re.MULTILINE)


@pytest.mark.parametrize("code", codes())
def test_every_code_has_a_section(code: str) -> None:
    assert f"### {code}: {codes()[code].title}\n" in page("codes.md")


@pytest.mark.parametrize("name", [n for n in cs.__all__ if n != "__version__"])
def test_every_public_name_is_on_the_python_page(name: str) -> None:
    assert re.search(rf"\b{name}\b", page("python.md"))


def patchifies(entry: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Tell whether a layer is eligible with a kernel above 1 in the default configuration."""
    if "s" not in row or row["t"] or row["g"] != 1 or entry["defaults"].keys() < {*_fields(row)}:
        return False
    lookup = Lookup({}, entry["defaults"], "defaults")
    index = tuple(row["i"][0]) if "i" in row else (0, 0, 0, 0)
    kernel, stride, padding, dilation = (lookup.numbers(row[k], index, 0) for k in "kspd")
    return kernel == stride and max(kernel) > 1 and not any(padding) and set(dilation) == {1}


def _fields(row: Mapping[str, Any]) -> Iterator[str]:
    return (field for sizes in "kspd" for field in named_in(row[sizes]))


def test_every_model_type_that_patchifies_is_on_the_page() -> None:
    content = Path(packed.__file__).with_name("catalogue.bin").read_bytes()
    expected = {
        key.split(":")[1]
        for key, entry in packed.unpack(content).items()
        if key.startswith(("transformers:", "diffusers:"))
        and any(patchifies(entry, row) for rows in entry["slots"].values() for row in rows)
    }
    assert {"vit", "qwen2_vl", "SD3Transformer2DModel"} <= expected
    listed = {*re.findall(r"^\| `([^`]+)` \|", page("architectures.md"), re.MULTILINE)}
    assert not expected - {""} - listed


@pytest.mark.parametrize(
    "row",
    [
        "| `vit` | `embeddings.patch_embeddings.projection` | `patch_size` | = kernel | 0 | `patch_size` 16 |",
        # Its fields are called the other way round.
        "| `pvt` | `encoder.patch_embeddings.*.projection` | `strides[*]` | `patch_sizes[*]` | 0 |",
        "| `audio-spectrogram-transformer` | `embeddings.patch_embeddings.projection` | `patch_size` | `frequency_stride × time_stride` | 0 |",
        "| `segformer` | `encoder.block.*.*.attention.self.sr` | `sr_ratios[*1]` | = kernel | 0 |",
        "| `convnext` | `stages.*.downsampling_layer.*` | 2 | = kernel | 0 |",
    ],
)
def test_a_row_says_where_sizes_come_from(row: str) -> None:
    assert f"\n{row}" in page("architectures.md")


@pytest.mark.parametrize("start", ["| `vitpose", "| `segformer` | `encoder.patch_embeddings"])
def test_what_no_config_makes_eligible_is_not_listed(start: str) -> None:
    assert start not in page("architectures.md")


def test_no_figure_of_accuracy_is_typed_by_hand() -> None:
    text = (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8")
    mark = r"<!-- (?:census|census bare|changed|changed bare|unseen|end) -->\n"
    parts = re.split(mark, text)
    assert len(parts) == 2 * 5 + 1
    assert not re.findall(r"\d ?%|\d,\d{3}", "".join(parts[::2]))


def test_every_file_with_long_tests_is_on_their_page() -> None:
    text = (ROOT / "docs" / "long-tests.md").read_text(encoding="utf-8")
    marker = re.compile(r"^\s*@pytest\.mark\.long|^pytestmark = .*\.long", re.MULTILINE)
    files = [
        p for p in sorted(ROOT.glob("tests/**/test_*.py")) if marker.search(p.read_text("utf-8"))
    ]
    assert files
    assert not [f.name for f in files if f"`tests/{f.name}`" not in text]


# --- JSON


def table(heading: str) -> Table:
    """Return field -> type of the table below a heading of json.md."""
    section = page("json.md").split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `([^`]+)` \| ([a-z ]+) \|", section, re.MULTILINE)
    assert len(dict(rows)) == len(rows) > 0
    return dict(rows)


def fields(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every field of a document with the type of its value."""
    if path:
        yield path, TYPES[type(value)]
    if isinstance(value, dict) and path not in FREE_KEYS:
        for name, inner in value.items():
            yield from fields(inner, f"{path}.{name}".lstrip("."))
    elif isinstance(value, list):
        for inner in value:
            if isinstance(inner, dict):
                yield from (row for row in fields(inner, f"{path}[]") if row[0] != f"{path}[]")


def run(*arguments: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def check(documents: list[Any], expected: Table) -> None:
    found = {row for document in documents for row in fields(document)}
    assert {name for name, _ in found} == expected.keys()
    for name, kind in found:
        allowed = expected[name].split(" or ")
        assert kind in allowed or (kind == "integer" and "number" in allowed), name
    for name, kinds in expected.items():
        # What is never null in any of the documents is perhaps not nullable at all; figures that
        # are not finite are made in tests of their own.
        if "null" in kinds and not kinds.startswith("number"):
            assert (name, "null") in found, name


@pytest.fixture(scope="module")
def swapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with a swapped checkpoint, and a bare one that nothing is known about."""
    folder = tmp_path_factory.mktemp("reference")
    cs.swap(SAMPLES / "jit_digits", folder / "jit")
    shutil.copy(SAMPLES / "jit_digits" / "model.safetensors", folder / "bare.safetensors")
    return folder


def plans(folder: Path, *, command: str, more: tuple[str, ...] = ()) -> list[Any]:
    bare, vit = str(folder / "bare.safetensors"), str(SAMPLES / "vit_digits")
    return [run(command, bare, vit, str(SAMPLES / "lenet_digits"), "missing", *more, code=4)]


def test_scan_documents_are_as_the_table_says(swapped: Path) -> None:
    check(plans(swapped, command="scan"), table("Scan"))


def test_scans_that_explain_are_as_the_tables_say(swapped: Path) -> None:
    shape = ("--to", "conv", "--input-shape", "classifier.3=7x7x7")
    lenet = [run("scan", str(SAMPLES / "lenet_digits"), *shape, "--explain", "classifier.3")]
    more = ("--explain", "*")
    documents = plans(swapped, command="scan", more=more) + lenet
    statement = ("--geometry", "*=d1")  # a form without a geometry
    documents.append(run("scan", str(swapped / "bare.safetensors"), *statement, *more))
    check(documents, {**table("Scan"), **table("Explain")})


def test_swap_documents_are_as_the_tables_say(swapped: Path) -> None:
    documents = plans(swapped, command="swap", more=("-o", str(swapped / "out")))
    documents.append(run("swap", str(vit_alone(swapped)), "--in-place"))
    proved = [v for d in documents for f in d["files"] for v in f.pop("verdict")]
    for file in (file for document in documents for file in document["files"]):
        file["verdict"] = []
    check(documents, {**table("Scan"), **table("Swap"), "schema": "string"})
    assert proved
    known = table("Verify")
    assert {name for name, _ in fields({"files": proved})} <= known.keys()


def test_networks_are_as_the_table_says() -> None:
    reports = [
        cs.fully_convolutional(
            nn.Sequential(*head), torch.zeros(1, 1, 6, 6), dry_run=dry, pool=pool
        )
        for head, dry, pool in (
            ([nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(32, 3)], False, "refuse"),
            ([nn.AdaptiveAvgPool2d(1), Excited(1), nn.Flatten(), nn.Linear(1, 3)], True, "refuse"),
        )
    ]
    documents = [json.loads(json.dumps(report.to_json())) for report in reports]
    rows = [documents[0]["verdict"][name][0] for name in ("cells", "crops")]
    known = {
        name.partition("outputs[].")[2] for name in table("Verify") if "models[].outputs" in name
    }
    assert {name for row in rows for name, _ in fields(row["outputs"][0])} == known - {""}
    for row in (row for name in ("cells", "crops") for row in documents[0]["verdict"][name]):
        row["outputs"] = []
    check(documents, table("Fully convolutional"))


def vit_alone(folder: Path) -> Path:
    """Give a copy of a checkpoint in a folder of its own, to be rewritten in place."""
    shutil.copytree(SAMPLES / "vit_digits", folder / "alone")
    return folder / "alone" / "model.safetensors"


def test_sidecars_are_as_the_table_says(tmp_path: Path) -> None:
    path = vit_alone(tmp_path)
    run("swap", str(path), "--in-place", "--verify", "bits")
    document = json.loads(path.with_name(f"{path.name}.convsurgeon.json").read_bytes())
    steps = table("The recipe")
    assert {name for name, _ in fields(document.pop("recipe"))} == steps.keys()
    check([document], {k: v for k, v in table("The sidecar").items() if k != "recipe"})


def shards(folder: Path) -> Iterator[Path]:
    """Yield two indexes of which each has a tensor, in a shard, that the other has not."""
    for name in ("one", "other"):
        place = folder / name
        place.mkdir()
        checkpoint(place / "a.safetensors", {"x": (2,)})
        checkpoint(place / f"{name}.safetensors", {name: (2,)})
        yield index_of(place, {"x": "a.safetensors", name: f"{name}.safetensors"})


def test_verify_documents_are_as_the_table_says(swapped: Path, tmp_path: Path) -> None:
    old, new = str(SAMPLES / "jit_digits"), str(swapped / "jit")
    vit, receipt = str(SAMPLES / "vit_digits"), swapped / "receipt.json"
    cs.swap(vit, swapped / "vit", child_keys=True)
    whole = run("verify", old, new)
    receipt.write_text(json.dumps(whole), "utf-8")
    model = ("--model", f"{vit}/model.py:build", "--input", "1x1x8x8")
    in_place = vit_alone(tmp_path)
    run("swap", str(in_place), "--in-place", "--verify", "bits")
    documents = [
        whole,
        run("verify", new),
        run("verify", str(in_place)),
        run("verify", vit, str(swapped / "vit"), *model),
        run("verify", "--receipt", str(receipt)),
        run("verify", *map(str, shards(swapped)), code=1),
    ]
    check(documents, table("Verify"))


def test_restore_documents_are_as_the_table_says(swapped: Path) -> None:
    out = str(swapped / "again")
    check([run("restore", str(swapped / "jit"), "-o", out)], table("Restore"))


def test_bench_documents_are_as_the_table_says(tmp_path: Path) -> None:
    conv1d_file(tmp_path / "line.safetensors")
    (tmp_path / "gone.safetensors").write_bytes(b"")
    few = ("--device", "cpu", "--rounds", "1", "--geometry", "proj=s2", "--dtype", "bfloat16")
    more = ("--device", "cpu", "--rounds", "5", "--seconds", "0.001", "--backward")
    documents = [run("bench", str(tmp_path), *few, code=4)]
    check([*documents, run("bench", str(SAMPLES / "vit_digits"), *more)], table("Bench"))


@pytest.mark.parametrize("command", ["scan", "swap", "verify", "restore", "bench"])
def test_documents_of_failed_calls_are_as_the_page_says(command: str) -> None:
    document = run(command, "missing", code=3)
    assert list(document) == ["schema", "files", "errors"]
    assert document["schema"] == f"convsurgeon.{command}/1"
    assert document["files"] == []
    kinds = {name: kind for name, kind in table("Scan").items() if name.startswith("errors")}
    assert dict(fields({"errors": document["errors"]})) == kinds


def test_recipes_are_as_the_table_says(swapped: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd.safetensors"
    data = (SAMPLES / "jit_digits" / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    text = data[8 : 8 + length].rstrip().replace(b'":{', b'": {')
    text += b" " * (-len(text) % 8)
    odd.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    cs.swap(odd, tmp_path / "new.safetensors", geometry=["x_embedder.*=s4"], layers=["*.proj1"])
    recipes = [recipe(swapped / "jit" / "model.safetensors"), recipe(tmp_path / "new.safetensors")]
    assert recipes[0]["schema"] == "convsurgeon.recipe/1"
    check(recipes, table("The recipe"))


def recipe(path: Path) -> Any:
    data = path.read_bytes()
    length = header_length(data[:8], len(data))
    header = parse(data[8 : 8 + length], len(data) - 8 - length)
    return json.loads(header.metadata_map[METADATA_KEY])
