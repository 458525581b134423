"""The record of a swap is held against the original too: what `restore` and `verify` rely on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mutants import SEED
from mutation.cases import CYCLE, case, original
from mutation.content import RECIPE, pack, unpack
from mutation.judge import choices, prepare
from mutation.mutants import damaged, mutants

import convsurgeon as cs
from convsurgeon.errors import RecipeError

Edit = Callable[[dict[str, Any]], object]

TWICE = next(c for n in range(CYCLE) if len((c := case(n, SEED)).modules) > 1 and c.to == "linear")


FIRST_RECORD: dict[str, Edit] = {
    "its step": lambda record: record["steps"][0].update(sha256="0" * 64),
    "the name of the original": lambda record: record["original"].update(name="x.safetensors"),
    "the header": lambda record: record["original"].update(has_metadata=False),
}


@pytest.mark.parametrize("name", FIRST_RECORD)
def test_what_the_first_swap_recorded_stays(name: str, tmp_path: Path) -> None:
    """A file that was swapped before is an original too; its record is a part of it."""
    first, second = ({**choices(TWICE), "layers": [module]} for module in TWICE.modules)
    paths = [tmp_path / f"{number}.safetensors" for number in range(4)]
    paths[0].write_bytes(pack(original(TWICE)))
    cs.swap(paths[0], paths[1], verify="bits", **first)
    cs.swap(paths[1], paths[2], verify="bits", **second)
    assert not refuted(paths[1], paths[2])
    rewrite_record(paths[2], paths[3], FIRST_RECORD[name])
    assert refuted(paths[1], paths[3])


def rewrite_record(path: Path, target: Path, edit: Edit) -> None:
    content = unpack(path.read_bytes())
    record = json.loads(content.metadata[RECIPE])
    edit(record)
    target.write_bytes(pack(content.saying(**{RECIPE: json.dumps(record)})))


def refuted(before: Path, after: Path) -> bool:
    try:
        return not cs.verify(before, after).equivalent
    except RecipeError:
        return True


def test_a_detour_is_refuted_by_the_function_although_the_bits_follow_it(tmp_path: Path) -> None:
    kind = "record of a detour, and a weight that took it"
    cases = (case(number, SEED) for number in range(CYCLE))
    of = next(one for one in cases if kind in {mutant.kind for mutant in mutants(one)})
    prepared = prepare(tmp_path, of)
    mutant = next(mutant for mutant in mutants(of) if mutant.kind == kind)
    path = tmp_path / "mutant.safetensors"
    path.write_bytes(damaged(prepared.subject, mutant))
    (found,) = cs.verify(prepared.before, path).files
    assert found.layers[0].bits.equal
    assert found.differences == ()
    assert not found.equivalent


@pytest.mark.parametrize("field", ["padding", "dilation", "groups"])
def test_a_record_of_another_convolution_is_refused_with_its_file(
    field: str, tmp_path: Path
) -> None:
    of = next(c for n in range(CYCLE) if (c := case(n, SEED)).rule == "patchify")
    prepared = prepare(tmp_path, of)
    axes = len(of.conv) - 2
    value = 2 if field == "groups" else [2] * axes
    path = tmp_path / "mutant.safetensors"
    rewrite_record(prepared.after, path, lambda r: r["steps"][0]["geometry"].update({field: value}))
    for ask in (
        lambda: cs.verify(prepared.before, path),
        lambda: cs.verify(path),
        lambda: cs.restore(path, tmp_path / "again.safetensors"),
    ):
        with pytest.raises(RecipeError, match="padding, dilation or groups") as caught:
            ask()
        assert (caught.value.code, caught.value.where) == ("CS082", str(path))
    assert not (tmp_path / "again.safetensors").exists()


def test_what_a_stored_header_makes_needless_keeps_nothing_from_being_restored(
    tmp_path: Path,
) -> None:
    """A header that is kept whole says itself whether there were metadata."""
    of = next(c for n in range(CYCLE) if (c := case(n, SEED)).rule == "patchify")
    paths = [tmp_path / f"{number}.safetensors" for number in range(4)]
    file = pack(original(of))
    start = 8 + int.from_bytes(file[:8], "little")
    header = b"{ " + file[9:start] + b" " * 7  # as no library lays it out
    paths[0].write_bytes(len(header).to_bytes(8, "little") + header + file[start:])
    cs.swap(paths[0], paths[1], verify="bits", **choices(of))
    rewrite_record(paths[1], paths[2], lambda r: r["original"].update(has_metadata=False))
    cs.restore(paths[2], paths[3])
    assert paths[3].read_bytes() == paths[0].read_bytes()
