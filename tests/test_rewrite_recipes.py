"""Damaged and hostile recipes in valid files: refused, never a traceback, never a wrong file."""

from __future__ import annotations

import base64
import hashlib
import json
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import convsurgeon as cs
from convsurgeon.errors import ConvsurgeonError, RecipeError
from convsurgeon.header import Header, lay_out
from convsurgeon.plan import METADATA_KEY
from convsurgeon.store import read_safetensors
from tests.files import checkpoint, counting, framed, listing
from tests.strategies import JSON, places, replaced


def with_recipe(path: Path, recipe: object) -> Path:
    """The same tensors with another recipe, in a valid file."""
    file = read_safetensors(path)
    text = recipe if isinstance(recipe, str) else json.dumps(recipe)
    others = [(k, v) for k, v in file.header.metadata or () if k != METADATA_KEY]
    header = Header(file.header.tensors, (*others, (METADATA_KEY, text)))
    data = path.read_bytes()[8 + file.header_length :]
    other = path.with_name("damaged.safetensors")
    other.write_bytes(lay_out(header) + data)
    return other


def recipe_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(read_safetensors(path).header.metadata_map[METADATA_KEY])
    return found


@pytest.fixture(scope="module")
def swapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with two steps, whose original header was unusual."""
    folder = tmp_path_factory.mktemp("recipes") / "x"
    folder.mkdir()
    text = '{ "p.weight":{"dtype":"F32","shape":[2,2,1,2],"data_offsets":[0,32]}, "__metadata__":{"k":"v"} }'
    (folder / "m.safetensors").write_bytes(framed(text, counting(32)))
    choices: dict[str, Any] = {"verify": "bits", "layout": "p1 p2 c"}
    cs.swap(folder / "m.safetensors", folder / "1.safetensors", geometry=["p=s1x2"], **choices)
    cs.swap(folder / "1.safetensors", folder / "2.safetensors", to="conv", **choices)
    (folder / "m.safetensors").rename(folder / "kept")
    (folder / "1.safetensors").unlink()
    return folder / "2.safetensors"


def test_the_undamaged_one_is_restored(swapped: Path) -> None:
    same = with_recipe(swapped, recipe_of(swapped))
    out = swapped.with_name("out.safetensors")
    cs.restore(same, out)
    assert out.read_bytes() == swapped.with_name("kept").read_bytes()
    out.unlink()
    same.unlink()


def attempt(act: Callable[[], object]) -> ConvsurgeonError | None:
    """Return the refusal; every other error is the test's."""
    try:
        act()
    except ConvsurgeonError as error:
        return error
    return None


def restored(swapped: Path, damaged: Path) -> bool:
    """Restore what it can; nothing but the original may come of it."""
    out = swapped.with_name("out.safetensors")
    error = attempt(lambda: cs.restore(damaged, out))
    if error is None:
        assert out.read_bytes() == swapped.with_name("kept").read_bytes()
        out.unlink()
    else:
        assert (error.code, error.where) == ("CS082", str(damaged)), error
        assert "\n" not in str(error)
    assert listing(swapped.parent) == ["2.safetensors", "damaged.safetensors", "kept"]
    return error is None


def test_a_mutated_recipe(swapped: Path) -> None:
    outcomes: set[bool] = set()

    @settings(max_examples=300)
    @given(data=st.data())
    def mutate(data: st.DataObject) -> None:
        recipe = recipe_of(swapped)
        place = data.draw(st.sampled_from(places(recipe)))
        damaged = with_recipe(swapped, replaced(recipe, place, data.draw(JSON)))
        outcomes.add(restored(swapped, damaged))

    mutate()
    for place in places(recipe := recipe_of(swapped)):
        outcomes.add(restored(swapped, with_recipe(swapped, replaced(recipe, place, "x"))))
    assert outcomes == {True, False}  # a mutated name does no harm


SPLINTERS = ["", "0", '"', "{", "}", "[", "]", ",", "null", "-1", "9" * 5000, "\u0000", "[" * 5000]


@settings(max_examples=150)
@given(data=st.data())
def test_a_mutated_text(swapped: Path, data: st.DataObject) -> None:
    text = json.dumps(recipe_of(swapped))
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, min(len(text), start + 9)))
    middle = data.draw(st.sampled_from(SPLINTERS))
    damaged = with_recipe(swapped, text[:start] + middle + text[stop:])
    restored(swapped, damaged)
    for read in (cs.scan, cs.verify):
        error = attempt(lambda read=read: read(damaged))  # type: ignore[misc]
        assert error is None or error.code == "CS082"


def refused(path: Path) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        cs.restore(path, path.with_name("out.safetensors"))
    assert (caught.value.code, caught.value.where) == ("CS082", str(path))
    assert not path.with_name("out.safetensors").exists()
    return caught.value


def test_a_bomb_for_a_header(swapped: Path) -> None:
    """What would unpack to a hundred mebibytes is unpacked as far as the recorded length."""
    recipe = recipe_of(swapped)
    packer = zlib.compressobj(9)
    block = b" " * (1 << 20)
    bomb = b"".join(packer.compress(block) for _ in range(100)) + packer.flush()
    assert len(bomb) < 110_000
    recipe["original"]["header"] = base64.b64encode(bomb).decode()
    damaged = with_recipe(swapped, recipe)
    tracemalloc.start()
    refused(damaged)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000
    recipe["original"]["header_length"] = 100_000_001
    refused(with_recipe(swapped, recipe))


RECORDED = {
    "no base64": "not base64!",
    "no zlib": base64.b64encode(b"plain").decode(),
    "empty": "",
    "cut off": base64.b64encode(zlib.compress(b"\x02\0\0\0\0\0\0\0{}")[:-6]).decode(),
}


@pytest.mark.parametrize("header", RECORDED.values(), ids=RECORDED.keys())
def test_a_damaged_header(swapped: Path, header: str) -> None:
    recipe = recipe_of(swapped)
    recipe["original"]["header"] = header
    refused(with_recipe(swapped, recipe))


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"p.weight":{"dtype":"F32","shape":[2,2,2],"data_offsets":[0,32]}}',
        '{"q.weight":{"dtype":"F32","shape":[2,2,1,2],"data_offsets":[0,32]}}',
        '{"p.weight":{"dtype":"I32","shape":[2,2,1,2],"data_offsets":[0,32]}}',
        '{"p.weight":{"dtype":"F32","shape":[2,2,1,3],"data_offsets":[0,48]}}',
    ],
)  # fmt: skip
def test_a_header_of_other_tensors(swapped: Path, text: str) -> None:
    """Whoever forged it also forged its digest; what it describes still has to be these tensors."""
    recipe, prefix = recipe_of(swapped), framed(text)
    recipe["original"] |= {
        "header": base64.b64encode(zlib.compress(prefix)).decode(),
        "header_length": len(text),
        "header_sha256": hashlib.sha256(prefix).hexdigest(),
    }
    refused(with_recipe(swapped, recipe))


@pytest.mark.parametrize("dtype", ["F4", "I32", "C64"])
def test_a_step_on_what_is_no_plain_float(tmp_path: Path, swapped: Path, dtype: str) -> None:
    """No swap wrote this, although everything in it fits together."""
    path = checkpoint(tmp_path / "other.safetensors", {"p.weight": (2, 2, 1, 2)}, dtype=dtype)
    prefix = lay_out(read_safetensors(path).header)
    recipe = recipe_of(swapped)
    recipe["original"] |= {
        "header": None,
        "header_length": len(prefix) - 8,
        "header_sha256": hashlib.sha256(prefix).hexdigest(),
        "has_metadata": False,
    }
    assert dtype in refused(with_recipe(path, recipe)).message


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "a/b", "a\\b", "..", ".", "", "a\0b", "a\nb", "x" * 300]
)
def test_a_recorded_name_that_leads_elsewhere(swapped: Path, name: str) -> None:
    recipe = recipe_of(swapped)
    recipe["original"]["name"] = name
    damaged = with_recipe(swapped, recipe)
    before = listing(swapped.parent)
    with pytest.raises(ConvsurgeonError) as caught:
        cs.restore(damaged)
    assert caught.value.code in {"CS082", "CS071"}
    assert listing(swapped.parent) == before
