"""`child_keys`: names of an inner layer, that a recipe declares, that are proved and undone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from typer.testing import CliRunner

import convsurgeon as cs
from convsurgeon.cli import app
from convsurgeon.errors import ConvsurgeonError, ShardError
from convsurgeon.header import lay_out, pack
from convsurgeon.plan import METADATA_KEY
from tests.files import checkpoint, counting, framed, index_of

SHAPES: dict[str, tuple[int, ...]] = {
    "embed.weight": (5, 4),
    "b.proj.bias": (6,),
    "a.weight": (6, 3, 2, 2),
    "b.proj.weight": (6, 3, 2, 2),
    "head.weight": (4, 6),
}
CHOICES: dict[str, Any] = {"geometry": ["*=s2"], "child_keys": True, "verify": "bits"}
LAST = "p1 p2 c"
RENAMED = {
    "a.weight": "a.linear.weight",
    "b.proj.weight": "b.proj.linear.weight",
    "b.proj.bias": "b.proj.linear.bias",
}


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return checkpoint(tmp_path / "in.safetensors", SHAPES, {"format": "pt"})


def swapped(original: Path, **choices: Any) -> Path:
    out = original.with_name("out.safetensors")
    cs.swap(original, out, force=True, **{**CHOICES, **choices})
    return out


def names(path: Path) -> list[str]:
    """The names in the order of the header."""
    raw = path.read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    return [name for name in header if name != "__metadata__"]


def code(call: Callable[[], object]) -> str:
    with pytest.raises(ConvsurgeonError) as caught:
        call()
    return caught.value.code


# --- Written, proved, undone


@pytest.mark.parametrize("layout", ["c p1 p2", LAST])
def test_names_change_in_place_and_come_back_byte_for_byte(layout: str, original: Path) -> None:
    out = swapped(original, layout=layout, verify="full")
    assert names(out) == [RENAMED.get(name, name) for name in names(original)]
    (file,) = cs.verify(original, out).require().files
    assert dict(file.renamed) == RENAMED
    assert file.others == 3
    assert cs.verify(out).equivalent
    cs.restore(out, original.with_name("again.safetensors"))
    assert original.with_name("again.safetensors").read_bytes() == original.read_bytes()
    with safe_open(out, "pt") as opened:
        assert set(opened.keys()) == {RENAMED.get(name, name) for name in SHAPES}


def test_an_unusual_header_comes_back_too(original: Path) -> None:
    raw = original.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    text = json.dumps(dict(reversed(header.items())), indent=1)
    original.write_bytes(framed(text, raw[8 + length :]))
    before = original.read_bytes()
    cs.restore(swapped(original), original, force=True)
    assert original.read_bytes() == before


def test_a_recipe_names_the_child(original: Path) -> None:
    with safe_open(swapped(original), "pt") as opened:
        steps = json.loads(opened.metadata()[METADATA_KEY])["steps"]
    assert {step["key"]: step["child"] for step in steps} == {
        "a.weight": "linear",
        "b.proj.weight": "linear",
    }
    with safe_open(swapped(original, child_keys=False), "pt") as opened:
        steps = json.loads(opened.metadata()[METADATA_KEY])["steps"]
    assert not any("child" in step for step in steps)


def test_scan_knows_the_layer_again(original: Path) -> None:
    out = swapped(original)
    (plan,) = cs.scan(out).files
    already = {row.key: row for row in plan.layers}
    assert {row.verdict.value for row in already.values()} == {"already"}
    assert already.keys() == {"a.linear.weight", "b.proj.linear.weight"}
    assert already["b.proj.linear.weight"].bias
    assert already["a.linear.weight"].geometry is not None
    (file,) = cs.swap(out, **CHOICES).files
    assert file.outcome == "skipped"


def test_evidence_is_asked_under_the_first_name(original: Path) -> None:
    out = swapped(original)
    plan = cs.scan(out, to="conv", geometry=["a=k2,s2"]).files[0]
    rows = {row.module: row for row in plan.layers}
    assert rows["a.linear"].evidence == ("user", "--geometry 'a=k2,s2'")
    assert not any("matches no module" in note for note in plan.notes)


def test_a_name_ends_with_the_form_that_it_was_for(original: Path) -> None:
    out, back = swapped(original, layout=LAST), original.with_name("back.safetensors")
    (planned,) = cs.scan(out, to="conv", layers=["a.linear", "b.proj.linear"]).files
    assert all(row.rewrite and row.rewrite.child for row in planned.rewrites)
    cs.swap(out, back, to="conv", layers=["a.linear", "b.proj.linear"], verify="bits")
    assert names(back) == names(original)
    assert cs.verify(original, back).equivalent
    assert cs.verify(out, back).equivalent
    again = original.with_name("again.safetensors")
    cs.swap(back, again, **CHOICES)
    assert names(again) == names(out)
    assert cs.verify(original, again).equivalent
    cs.restore(again, original.with_name("first.safetensors"))
    assert original.with_name("first.safetensors").read_bytes() == original.read_bytes()


def test_a_file_of_a_model_in_linear_form_becomes_one_of_the_original(tmp_path: Path) -> None:
    shapes = {"a.linear.weight": (6, 12), "a.linear.bias": (6,), "head.weight": (4, 6)}
    path, out = checkpoint(tmp_path / "in.safetensors", shapes), tmp_path / "out.safetensors"
    choices: dict[str, Any] = {"to": "conv", "geometry": ["a.linear=k2,s2"], "verify": "bits"}
    cs.swap(path, out, child_keys=True, layers=["a.linear"], **choices)
    assert names(out) == ["a.bias", "a.weight", "head.weight"]
    cs.verify(path, out).require()
    cs.restore(out, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    for row in (
        cs.scan(path, child_keys=True, to="conv", method="1x1", layers=["head"]).files[0].layers
    ):
        assert (row.code, row.rewrite) == (
            ("CS089", None) if row.module == "head" else (None, None)
        )


# --- Refused


@pytest.mark.parametrize("taken", ["a.weight", "a.bias"])
def test_a_name_that_is_taken(taken: str, tmp_path: Path) -> None:
    shapes = {"a.linear.weight": (6, 12), taken: (6,), "b.linear.weight": (6, 12)}
    path = checkpoint(tmp_path / "in.safetensors", shapes)
    choices: dict[str, Any] = {
        "to": "conv",
        "method": "1x1",
        "child_keys": True,
        "layers": ["*.linear"],
    }
    rows = {row.module: row for row in cs.scan(path, **choices).files[0].layers}
    assert (rows["a.linear"].code, rows["a.linear"].rewrite) == ("CS089", None)
    assert taken in rows["a.linear"].reason
    assert rows["b.linear"].rewrite
    out = tmp_path / "out.safetensors"
    assert code(lambda: cs.swap(path, out, **{**choices, "layers": ["a.*"]})) == "CS080"


def test_a_module_with_tensors_in_a_child_is_no_plain_layer(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "in.safetensors", SHAPES | {"b.proj.linear.bias": (6,)})
    rows = {
        row.module: row for row in cs.scan(path, geometry=["*=s2"], child_keys=True).files[0].layers
    }
    assert (rows["b.proj"].code, rows["b.proj"].rewrite) == ("CS007", None)


def sharded(folder: Path, parts: Mapping[str, Mapping[str, tuple[int, ...]]]) -> Path:
    folder.mkdir()
    for name, shapes in parts.items():
        header = pack([(key, "F32", shape) for key, shape in shapes.items()], {"format": "pt"})
        (folder / name).write_bytes(lay_out(header) + counting(header.data_bytes))
    index_of(folder, {key: name for name, shapes in parts.items() for key in shapes})
    return folder


PARTS: dict[str, dict[str, tuple[int, ...]]] = {
    "model-00001-of-00002.safetensors": {"embed.weight": (5, 4), "a.weight": (6, 3, 2, 2)},
    "model-00002-of-00002.safetensors": {"b.proj.weight": (6, 3, 2, 2), "b.proj.bias": (6,)},
}
INDEX = "model.safetensors.index.json"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


SPELLINGS: dict[str, Callable[[str], str]] = {
    "compact": lambda text: json.dumps(json.loads(text), separators=(",", ":")),
    "indented": lambda text: json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n",
    "names elsewhere too": lambda text: text.replace("{}", '{"note": "b.proj.weight", "a": "\\"b.proj.bias\\":"}'),
    "escaped in front": lambda text: text.replace('"b.proj', '"\\u0062.proj'),
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("single", [True, False], ids=["index", "folder"])
def test_shards_and_their_index(spelling: str, single: bool, tmp_path: Path) -> None:
    folder = sharded(tmp_path / "in", PARTS)
    index = folder / INDEX
    index.write_text(SPELLINGS[spelling](index.read_text()))
    before, out = contents(folder), tmp_path / "out"
    cs.swap(index if single else folder, out, **CHOICES)
    found, wanted = (json.loads(path.read_text()) for path in (out / INDEX, index))
    assert found["weight_map"] == {RENAMED.get(k, k): v for k, v in wanted["weight_map"].items()}
    assert found["metadata"] == wanted["metadata"]
    assert cs.verify(folder, out).equivalent
    cs.restore(out, tmp_path / "again")
    assert contents(tmp_path / "again") == before


def test_an_index_that_could_not_be_given_back(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "in", PARTS)
    index = folder / INDEX
    index.write_text(index.read_text().replace("proj.weight", "proj.\\u0077eight"))
    with pytest.raises(ShardError, match=r"escapes.*CS045"):
        cs.swap(folder, tmp_path / "out", **CHOICES)
    assert not (tmp_path / "out").exists()
    index.write_text(index.read_text().replace("{}", '{"b.proj.bias": 1}'))
    assert code(lambda: cs.swap(folder, tmp_path / "out", **CHOICES)) == "CS045"


def test_a_bias_in_another_shard(tmp_path: Path) -> None:
    apart: dict[str, dict[str, tuple[int, ...]]] = {
        "one.safetensors": {"a.weight": (6, 3, 2, 2)},
        "two.safetensors": {"a.bias": (6,)},
    }
    folder = sharded(tmp_path / "in", apart)
    (row,) = cs.scan(folder, geometry=["*=s2"], child_keys=True).files[0].layers
    assert (row.code, row.rewrite) == ("CS089", None)
    assert cs.scan(folder, geometry=["*=s2"]).files[0].rewrites


def test_names_are_not_changed_in_place(original: Path, tmp_path: Path) -> None:
    before = original.read_bytes()
    assert code(lambda: cs.swap(original, in_place=True, **CHOICES)) == "CS075"
    assert original.read_bytes() == before
    folder = sharded(tmp_path / "in", PARTS)
    whole = contents(folder)
    assert code(lambda: cs.swap(folder, in_place=True, **CHOICES)) == "CS075"
    assert contents(folder) == whole
    cs.swap(folder, tmp_path / "out", **CHOICES)
    assert code(lambda: cs.restore(tmp_path / "out", in_place=True)) == "CS075"


def test_reports_say_so(original: Path) -> None:
    out = swapped(original)
    result = CliRunner().invoke(app, ["scan", str(original), "--geometry", "*=s2", "--child-keys"])
    assert "reshape, no byte moved, named linear.weight" in " ".join(result.stdout.split())
    result = CliRunner().invoke(app, ["verify", str(original), str(out), "--bits"])
    assert "3 tensors renamed, as the recipe says" in result.stdout
