"""Several shards rewritten in place are one transaction; no other file of the folder is touched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import convsurgeon as cs
from convsurgeon.api.work import Worker
from convsurgeon.errors import ConvsurgeonError
from convsurgeon.store import Journal, in_place, journal_of, recover
from tests.cli_helpers import STATED, model_file, model_shards
from tests.in_place_cases import CASES, Content, Cut, content, cut_at, swap_in_place


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Content]:
    """Two shards of which the first has its new header already, under one transaction."""
    case = CASES["shards"]
    case.make(tmp_path)
    before = content(tmp_path)
    put = in_place.put
    done: list[Path] = []

    def once(path: Path, *args: Any) -> None:
        if done:
            raise Cut
        done.append(path)
        put(path, *args)

    monkeypatch.setattr(in_place, "_take_back", lambda *_, **__: None)
    with monkeypatch.context() as patch:
        patch.setattr(in_place, "put", once)
        with pytest.raises(Cut):
            case.act(tmp_path)
    assert done == [tmp_path / "a.safetensors"]
    return tmp_path, before


@pytest.mark.parametrize("name", ["a.safetensors", "c.safetensors", "model.safetensors.index.json"])
def test_whichever_file_is_opened_all_go_back(shards: tuple[Path, Content], name: str) -> None:
    folder, before = shards
    assert not journal_of(folder / "b.safetensors").exists()  # nothing of it is rewritten
    cs.scan(folder / name, geometry=STATED)
    assert content(folder) == before


def test_a_shard_without_a_part_in_it_is_read(shards: tuple[Path, Content]) -> None:
    folder, before = shards
    after = content(folder)
    cs.scan(folder / "b.safetensors")
    assert content(folder) == after != before


def test_the_journal_of_a_shard_whose_transaction_has_ended(shards: tuple[Path, Content]) -> None:
    folder, before = shards
    pointer = journal_of(folder / "c.safetensors").read_bytes()
    recover(folder / "a.safetensors")
    journal_of(folder / "c.safetensors").write_bytes(pointer)
    cs.scan(folder / "c.safetensors", geometry=["other=s2"])
    assert content(folder) == before


def test_the_journal_of_a_shard_whose_leader_is_in_another_transaction(
    shards: tuple[Path, Content], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, before = shards
    pointer = journal_of(folder / "c.safetensors").read_bytes()
    recover(folder / "a.safetensors")
    with cut_at(monkeypatch, "put"), pytest.raises(Cut):
        swap_in_place(folder / "a.safetensors")
    journal_of(folder / "c.safetensors").write_bytes(pointer)
    cs.scan(folder / "c.safetensors", geometry=["other=s2"])
    assert not journal_of(folder / "c.safetensors").exists()
    assert journal_of(folder / "a.safetensors").exists()
    recover(folder / "a.safetensors")
    assert content(folder) == before


def test_a_run_that_was_cut_off_during_the_proofs_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its journal names the other file too, which nothing could put back without it."""
    case = CASES["shards"]
    case.make(tmp_path)
    shard = tmp_path / "c.safetensors"
    prove = Worker.prove

    def slow(self: Worker, *args: Any) -> Any:
        found = prove(self, *args)
        if not journal_of(shard).exists():
            journal_of(shard).write_bytes(Journal("a.safetensors").to_bytes())
        return found

    before = shard.read_bytes()
    monkeypatch.setattr(Worker, "prove", slow)
    with pytest.raises(ConvsurgeonError) as caught:
        cs.swap(shard, in_place=True, geometry=["other=s2"], verify="bits")
    assert caught.value.code == "CS078"
    assert shard.read_bytes() == before
    assert journal_of(shard).exists()


def test_a_shard_that_is_missing(shards: tuple[Path, Content]) -> None:
    folder, _ = shards
    (folder / "c.safetensors").unlink()
    with pytest.raises(ConvsurgeonError) as caught:
        cs.scan(folder / "a.safetensors")
    assert caught.value.code == "CS077"


def test_only_shards_with_a_rewritten_tensor_are_touched(tmp_path: Path) -> None:
    case = CASES["shards"]
    case.make(tmp_path)
    before, was = content(tmp_path), (tmp_path / "b.safetensors").stat()
    report: Any = case.act(tmp_path)
    after = content(tmp_path)
    names = {name for name in after if after[name] != before.get(name)}
    rewritten = {"a.safetensors", "c.safetensors"}
    assert names == rewritten | {f"{name}.convsurgeon.json" for name in rewritten}
    assert (tmp_path / "b.safetensors").stat() == was
    (file,) = report.files
    assert [verdict.original for verdict in file.verdicts] == [
        "a.safetensors",
        "c.safetensors",
        "b.safetensors",
    ]
    assert file.output == file.whole == str(tmp_path / case.target)
    assert cs.verify(tmp_path / case.target).equivalent
    note = "the recipe stands in a.safetensors.convsurgeon.json and 1 more beside the shards"
    assert note in cs.scan(tmp_path / case.target).files[0].notes
    rows = cs.restore(tmp_path / case.target, in_place=True).files
    assert [Path(row.path).name for row in rows] == ["a.safetensors", "c.safetensors"]
    assert content(tmp_path) == before


def test_a_folder_is_each_of_its_checkpoints(tmp_path: Path) -> None:
    index = model_shards(tmp_path)
    single = model_file(tmp_path / "single.safetensors")
    before = content(tmp_path)
    report = cs.swap(tmp_path, in_place=True, geometry=STATED, verify="bits")
    assert [(file.output, file.outcome) for file in report.files] == [
        (str(index), "written"),
        (str(single), "written"),
    ]
    cs.restore(tmp_path, in_place=True)
    assert content(tmp_path) == before


def test_one_checkpoint_of_a_folder_fails_alone(tmp_path: Path) -> None:
    for name in ("one", "two"):
        model_file(tmp_path / f"{name}.safetensors")
    (tmp_path / "one.safetensors").chmod(0o444)
    report = cs.swap(tmp_path, in_place=True, geometry=STATED, verify="bits")
    assert [failure.code for failure in report.errors] == ["CS079"]
    assert [Path(file.output or "").name for file in report.files] == ["two.safetensors"]
    assert report.exit_code() == 4
