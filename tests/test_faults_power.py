"""Power cuts on paper: every state that a disk may be in after any call of a run is old or new."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.harness import bench
from tests.faults.model import Disk, Step, Tree, states
from tests.faults.replay import replay
from tests.faults.scenarios import SCENARIOS
from tests.faults.strace import why_not
from tests.faults.zygote import Zygote

recorded = pytest.mark.skipif(bool(why_not()), reason=f"no run is recorded: {why_not()}")
DATA = bytes(range(256)) * 8


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    with Zygote() as process:
        yield process


# Each scenario and how many states there are at least.
RECORDED = {
    "file, --force": 15,
    "folder, --force, two threads": 40,
    "folder, --force": 40,
    "in place, recipe beside": 20,
}


@recorded
@pytest.mark.parametrize("name", RECORDED)
def test_every_state_is_old_or_new(zygote: Zygote, name: str) -> None:
    with bench(zygote, SCENARIOS[name]) as found:
        wrong = list(replay(found, each=15, seed=1))
    assert [texts for texts in wrong if texts] == []
    assert len(wrong) >= RECORDED[name]


UNSAFE = {
    ("syncs too late", "file"): "neither old nor new",
    ("never syncs", "file"): "neither old nor new",
    ("forgets the folder", "file"): "exit code 0, and the output is not there",
    ("writes under the final name", "file"): "neither old nor new",
    ("renames twice", "folder, --force"): "neither old nor new",
    ("removes the journal first", "in place"): "cannot be used",
}


@recorded
@pytest.mark.parametrize(("writer", "name"), UNSAFE, ids=str)
def test_an_unsafe_writer_does_not_pass(zygote: Zygote, writer: str, name: str) -> None:
    with bench(zygote, SCENARIOS[name], writer) as found:
        complaints = [text for texts in replay(found, each=2, seed=1) for text in texts]
    assert any(UNSAFE[writer, name] in text for text in complaints), complaints


def after(folder: Path, *steps: Step, each: int = 40) -> list[Tree]:
    """What the disk may hold after the last of some steps."""
    found = states(Disk.holding(folder), steps, each, seed=1)
    return [tree for number, tree in found if number == len(steps)]


CREATE, WRITE = Step("create", ("new",)), Step("pwrite64", ("new",), DATA, 0)


def test_nothing_is_safe_before_it_is_synced(tmp_path: Path) -> None:
    contents = {tree.get("new") for tree in after(tmp_path, CREATE, WRITE)}
    assert {None, b"", DATA, bytes(len(DATA))} <= contents
    torn = {c for c in contents if c and c not in (DATA, bytes(len(DATA)))}
    assert torn
    for content in torn:
        for begin in range(0, len(content), 512):
            sector = content[begin : begin + 512]
            assert sector in (DATA[begin : begin + 512], bytes(len(sector)))


def test_content_is_safe_after_a_sync_and_the_name_is_not(tmp_path: Path) -> None:
    trees = after(tmp_path, CREATE, WRITE, Step("fsync", ("new",)))
    assert sorted(map(len, trees)) == [0, 1]
    assert {"new": DATA} in trees


def test_all_is_safe_after_both_syncs(tmp_path: Path) -> None:
    steps = (CREATE, WRITE, Step("fsync", ("new",)), Step("fsync", (".",)))
    assert after(tmp_path, *steps) == [{"new": DATA}]


@pytest.mark.parametrize("exchanges", [False, True])
def test_a_rename_is_one_step(tmp_path: Path, exchanges: bool) -> None:
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").write_bytes(b"2")
    trees = after(tmp_path, Step("rename", ("a", "b"), exchanges=exchanges))
    new: Tree = {"a": b"2", "b": b"1"} if exchanges else {"b": b"1"}
    assert sorted(trees, key=str) == sorted([{"a": b"1", "b": b"2"}, new], key=str)


def test_a_folder_takes_along_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"1")
    trees = after(tmp_path, Step("rename", ("a", "b")), Step("fsync", (".",)))
    assert trees == [{"b": None, "b/x": b"1"}]
    trees = after(tmp_path, Step("unlink", ("a/x",)), Step("unlink", ("a",)))
    assert {} in trees
    assert {"a": None, "a/x": b"1"} in trees


def test_a_file_that_is_cut_off(tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(DATA)
    trees = after(tmp_path, Step("ftruncate", ("new",), place=5), Step("fsync", ("new",)))
    assert trees == [{"new": DATA[:5]}]
    trees = after(tmp_path, Step("link", ("new", "twin")), Step("fsync", (".",)))
    assert trees == [{"new": DATA, "twin": DATA}]
