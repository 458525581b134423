"""Batches, folders, shards, a second swap, dry runs: what CI relies on."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

import convsurgeon as cs
from convsurgeon.errors import UnreadableError
from tests.cli_helpers import (
    STATED,
    f32,
    invoke,
    listing,
    model_file,
    model_shards,
    model_tensors,
    read,
    write,
)


def outcomes(report: cs.SwapReport) -> list[str]:
    return [file.outcome for file in report.files]


def test_one_failing_file_does_not_stop_the_others(tmp_path: Path) -> None:
    for name in ("a", "c"):
        model_file(tmp_path / f"{name}.safetensors")
    (tmp_path / "b.safetensors").write_bytes(b"")
    out = tmp_path / "out"
    patterns: list[str | Path] = [
        str(tmp_path / "[ab].safetensors"),
        tmp_path / "c.safetensors",
        "gone.safetensors",
    ]
    for outcome in ("written", "same"):
        report = cs.swap(patterns, out, geometry=STATED)
        assert outcomes(report) == [outcome, outcome]
        assert [failure.code for failure in report.errors] == ["CS030", "CS031"]
        assert report.exit_code() == 4
    assert sorted(p.name for p in out.iterdir()) == ["a.linear.safetensors", "c.linear.safetensors"]


@pytest.mark.parametrize("in_place", [False, True])
def test_what_the_system_refuses_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, in_place: bool
) -> None:
    """A folder that may not be listed, say."""
    for name in ("a", "c"):
        model_file(tmp_path / f"{name}.safetensors")
    (tmp_path / "b").mkdir()
    listed = Path.iterdir

    def refused(folder: Path) -> Iterator[Path]:
        if folder.name == "b":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return listed(folder)

    monkeypatch.setattr(Path, "iterdir", refused)
    paths = [tmp_path / name for name in ("a.safetensors", "b", "c.safetensors")]
    for report in (cs.scan(paths), cs.swap(paths, geometry=STATED, in_place=in_place)):
        assert len(report.files) == 2
        (failed,) = report.errors
        assert failed.code == "CS037"
        assert failed.message.startswith(f"{tmp_path / 'b'}: the system refused: Permission denied")
        assert report.exit_code() == 4
    with pytest.raises(UnreadableError, match="CS037"):
        cs.scan(tmp_path / "b")


def test_a_name_for_which_there_is_no_room(tmp_path: Path) -> None:
    """The output's name is longer than its source's."""
    model_file(tmp_path / f"{'x' * 240}.safetensors")
    model_file(tmp_path / "y.safetensors")
    report = cs.swap(str(tmp_path / "*.safetensors"), geometry=STATED)
    assert outcomes(report) == ["written"]
    assert [failure.code for failure in report.errors] == ["CS071"]


def test_all_failing_is_a_refusal(tmp_path: Path) -> None:
    report = cs.swap([tmp_path / "a.safetensors", tmp_path / "b.safetensors"])
    assert (report.exit_code(), len(report.errors), report.files) == (3, 2, ())
    assert cs.scan([tmp_path / "a", tmp_path / "b"]).exit_code() == 3
    assert listing(tmp_path) == {}


def test_a_file_with_nothing_eligible_counts_as_done_in_a_batch(tmp_path: Path) -> None:
    model_file(tmp_path / "a.safetensors")
    write(tmp_path / "b.safetensors", {"head.weight": f32((2, 3))})
    report = cs.swap(str(tmp_path / "*.safetensors"), geometry=STATED)
    assert outcomes(report) == ["written", "skipped"]
    assert report.files[1].output is None
    assert report.exit_code() == 0


def test_two_files_that_would_share_one_output(tmp_path: Path) -> None:
    paths = [model_file(tmp_path / name / "model.safetensors") for name in ("a", "b")]
    tensors, metadata = read(paths[1])
    write(paths[1], tensors | {"head.weight": f32((5, 8), 9)}, metadata)
    report = cs.swap(paths, tmp_path / "out", force=True, geometry=STATED)
    assert outcomes(report) == ["written"]
    assert [failure.code for failure in report.errors] == ["CS070"]
    assert cs.verify(paths[0], tmp_path / "out" / "model.linear.safetensors").equivalent


def test_several_results_do_not_fit_into_one_file(tmp_path: Path) -> None:
    paths = [model_file(tmp_path / f"{name}.safetensors") for name in "ab"]
    ran = invoke("swap", *paths, "--geometry", STATED[0], "-o", tmp_path / "c.safetensors")
    assert (ran.code, ran.out) == (2, "")
    assert "name a folder" in ran.err
    assert len(listing(tmp_path)) == 2


def test_a_second_run_finds_the_same_bytes(tmp_path: Path) -> None:
    path = model_file(tmp_path / "model.safetensors")
    assert outcomes(cs.swap(path, geometry=STATED)) == ["written"]
    before = listing(tmp_path)
    assert outcomes(cs.swap(path, geometry=STATED)) == ["same"]
    assert listing(tmp_path) == before


def test_a_swapped_file_is_skipped_with_a_note(tmp_path: Path) -> None:
    path = model_file(tmp_path / "model.safetensors")
    cs.swap(path, geometry=STATED)
    swapped = tmp_path / "model.linear.safetensors"
    before = listing(tmp_path)
    ran = invoke("swap", swapped)
    assert ran.code == 0
    assert "already in the target form" in ran.out
    (layer,) = [v for v in cs.scan(swapped).files[0].layers if v.module == "embed.proj"]
    assert layer.verdict.value == "already"
    assert listing(tmp_path) == before


def test_a_folder_keeps_every_side_file(tmp_path: Path) -> None:
    folder = tmp_path / "vit"
    model_file(folder / "model.safetensors")
    for name, data in {
        "config.json": b"{}",
        "README.md": b"# x\r\n",
        "vocab.bin.txt": bytes(9),
    }.items():
        (folder / name).write_bytes(data)
    (folder / "sub").mkdir()
    before = listing(folder)
    report = cs.swap(folder, geometry=STATED)
    assert report.files[0].whole == str(tmp_path / "vit.linear")
    after = listing(tmp_path / "vit.linear")
    assert {n for n in after if after[n] != before[n]} == {"model.safetensors"}
    assert set(before) - set(after) == {"sub"}
    assert cs.verify(folder, tmp_path / "vit.linear").equivalent
    assert outcomes(cs.swap(folder, geometry=STATED)) == ["same"]
    cs.restore(tmp_path / "vit.linear", tmp_path / "again")
    assert listing(tmp_path / "again") == {k: v for k, v in before.items() if k != "sub"}
    assert listing(folder) == before


def test_the_folder_of_the_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model_file(tmp_path / "vit" / "model.safetensors")
    monkeypatch.chdir(tmp_path / "vit")
    cs.swap(".", geometry=STATED)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["vit", "vit.linear"]


@pytest.mark.parametrize("out", [".", "./", "", "inner/..", "../out"])
@pytest.mark.parametrize("index", [False, True])
def test_the_folder_of_the_moment_as_output(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, index: bool
) -> None:
    path = model_shards(tmp_path / "vit")
    before = listing(tmp_path / "vit")
    place = tmp_path / "out"
    place.mkdir()
    if "inner" in out:
        (place / "inner").mkdir()
    monkeypatch.chdir(place)
    cs.swap(path if index else path.parent, out, geometry=STATED, force="inner" in out)
    assert sorted(p.name for p in place.iterdir()) == sorted(before)
    again = tmp_path / "again"
    again.mkdir()
    monkeypatch.chdir(again)
    cs.restore(place, ".")
    assert listing(again) == before


def test_the_folder_above(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model_file(tmp_path / "vit" / "model.safetensors")
    (tmp_path / "vit" / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "vit" / "inner")
    cs.swap("..", geometry=STATED)
    cs.swap("../../vit/inner/..", tmp_path / "named", geometry=STATED)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["named", "vit", "vit.linear"]
    monkeypatch.chdir(tmp_path / "vit.linear")
    (tmp_path / "vit").rename(tmp_path / "before")
    cs.restore(".")
    assert listing(tmp_path / "vit") == {
        "model.safetensors": (tmp_path / "before" / "model.safetensors").read_bytes()
    }


@pytest.mark.parametrize(
    ("source", "out"),
    [
        ("vit", "x/../vit/out"),
        ("vit", "link/out"),
        ("vit", "link/inner/out"),
        ("link", "vit/out"),
        ("link", "link/out"),
        ("x/../vit", "vit/out"),
        (".", "out"),
        ("x/..", "out"),
    ],
)
def test_an_output_inside_the_folder_by_another_name(
    source: str, out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copied with all below it, the folder would hold a part of its own copy."""
    model_file(tmp_path / "vit" / "model.safetensors")
    (tmp_path / "vit" / "inner").mkdir()
    (tmp_path / "x").mkdir()
    (tmp_path / "link").symlink_to("vit")
    cs.swap(tmp_path / "vit", tmp_path / "swapped", geometry=STATED)
    monkeypatch.chdir(tmp_path)
    before = listing(tmp_path)
    with pytest.raises(cs.ConvsurgeonError, match="CS072"):
        cs.swap(source, out, recursive=True, geometry=STATED)
    assert listing(tmp_path) == before
    (tmp_path / "vit").rename("original")
    (tmp_path / "swapped").rename("vit")
    before = listing(tmp_path)
    with pytest.raises(cs.ConvsurgeonError, match="CS072"):
        cs.restore(source, out)
    assert listing(tmp_path) == before


@pytest.mark.parametrize(
    ("source", "out"),
    [
        ("a/vit", "a"),
        ("link", "a"),
        ("a/vit", "x/../a"),
        ("a/vit/model.safetensors.index.json", "a"),
        ("a/vit/model.safetensors.index.json", "a/vit"),
        ("a/vit/model.safetensors.index.json", "link/../../a"),
        ("a/vit", "."),
        ("a/vit", "a/.."),
        ("a/vit", "a/vit/.."),
    ],
)
@pytest.mark.parametrize("restored", [False, True])
def test_a_folder_that_holds_the_source_is_never_replaced(
    source: str, out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, restored: bool
) -> None:
    """With `--force` too: the source would go with all that stands in the folder."""
    model_shards(tmp_path / "a" / "vit")
    (tmp_path / "a" / "precious").write_text("x")
    (tmp_path / "x").mkdir()
    (tmp_path / "link").symlink_to("a/vit")
    monkeypatch.chdir(tmp_path)
    if restored:
        cs.swap("a/vit", "swapped", geometry=STATED)
        (tmp_path / "a" / "vit").rename("original")
        (tmp_path / "swapped").rename("a/vit")
        source = source.removesuffix("/model.safetensors.index.json")
    before = listing(tmp_path)
    with pytest.raises(cs.ConvsurgeonError, match="CS072"):
        if restored:
            cs.restore(source, out, force=True)
        else:
            cs.swap(source, out, force=True, geometry=STATED)
    assert listing(tmp_path) == before


def test_a_folder_that_the_source_leads_to_is_never_replaced(tmp_path: Path) -> None:
    """A cache of links, and the folder of what they lead to."""
    model_file(tmp_path / "models" / "blobs" / "0123")
    (tmp_path / "models" / "snapshots" / "1").mkdir(parents=True)
    link = tmp_path / "models" / "snapshots" / "1" / "model.safetensors"
    link.symlink_to("../../blobs/0123")
    before = listing(tmp_path)
    with pytest.raises(cs.ConvsurgeonError, match="CS072"):
        cs.swap(link.parent, tmp_path / "models" / "blobs", force=True, geometry=STATED)
    assert listing(tmp_path) == before
    # A link to such a folder is replaced as a link: nothing is lost.
    (tmp_path / "out").symlink_to("models")
    cs.swap(link.parent, tmp_path / "out", force=True, geometry=STATED)
    assert not (tmp_path / "out").is_symlink()
    assert link.exists()


def test_an_output_inside_the_folder_that_is_copied(tmp_path: Path) -> None:
    model_file(tmp_path / "a" / "model.safetensors")
    before = listing(tmp_path)
    with pytest.raises(cs.ConvsurgeonError, match="CS072"):
        cs.swap(tmp_path, tmp_path / "a" / "out", recursive=True, geometry=STATED)
    assert listing(tmp_path) == before


@pytest.mark.parametrize("recursive", [False, True])
def test_temporaries_are_no_side_files(tmp_path: Path, *, recursive: bool) -> None:
    """Half a file, of a run that was killed or is at work; the next run of its target removes it."""
    folder = tmp_path / "vit"
    model_file(folder / "model.safetensors")
    (folder / ".gitattributes").write_text("x")
    (folder / "sub").mkdir()
    for place in (folder, folder / "sub"):
        (place / ".model.linear.safetensors.0a1b2c3d.convsurgeon-tmp").write_bytes(b"half")
        model_file(place / ".sub.linear.0a1b2c3d.convsurgeon-tmp" / "model.safetensors")
    (folder / "sub" / "notes.txt").write_text("y")
    cs.swap(folder, geometry=STATED, recursive=recursive)
    inner = {"sub", "sub/notes.txt"} if recursive else set()
    expected = {".gitattributes", "model.safetensors", *inner}
    assert listing(tmp_path / "vit.linear").keys() == expected
    for place in (tmp_path / "vit.linear", tmp_path / "vit.linear" / "sub"):
        if place.is_dir():
            (place / ".x.0a1b2c3d.convsurgeon-tmp").write_bytes(b"half")
    cs.restore(tmp_path / "vit.linear", tmp_path / "again")
    assert listing(tmp_path / "again").keys() == expected


@pytest.mark.parametrize("by_index", [True, False])
def test_only_shards_with_rewritten_tensors_change(by_index: bool, tmp_path: Path) -> None:
    index = model_shards(tmp_path / "big")
    before = listing(tmp_path / "big")
    report = cs.swap(index if by_index else index.parent, tmp_path / "out", geometry=STATED)
    place = Path(report.files[0].whole or "")
    after = listing(place)
    assert {n for n in before if after[n] != before[n]} == {"model-00001-of-00002.safetensors"}
    assert set(after) == set(before)
    assert report.files[0].to_json()["untouched"] == 3
    verdict = cs.verify(index, place / index.name)
    assert (verdict.equivalent, verdict.scope, len(verdict.files)) == (True, "file", 2)
    assert cs.verify(place).scope == "rewritten"
    (place / "model-00002-of-00002.safetensors").write_bytes(
        before["model-00002-of-00002.safetensors"][:-1] + b"\x55"  # type: ignore[index]
    )
    assert not cs.verify(index, place / index.name).equivalent


def test_a_dry_run_shows_the_very_plan_and_writes_nothing(tmp_path: Path) -> None:
    for path in (model_file(tmp_path / "a.safetensors"), model_shards(tmp_path / "big")):
        before = listing(tmp_path)
        dry = cs.swap(path, dry_run=True, geometry=STATED)
        assert listing(tmp_path) == before
        assert outcomes(dry) == ["planned"]
        wet = cs.swap(path, geometry=STATED)
        assert outcomes(wet) == ["written"]
        assert dry.files[0].plan == wet.files[0].plan == cs.scan(path, geometry=STATED).files[0]
        assert dry.files[0].output is not None


def test_two_swaps_in_a_row_are_undone_together(tmp_path: Path) -> None:
    tensors = {f"{name}.weight": f32((4, 3, 2, 2), seed) for seed, name in enumerate("ab")}
    path = write(tmp_path / "model.safetensors", tensors | {"c.weight": f32((2, 4, 1, 1))})
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    cs.swap(path, first, layers=["a"], layout="p1 p2 c", geometry=["*=s2", "c=s1"])
    cs.swap(first, second, geometry=["*=s2", "c=s1"])
    shapes = {name: tensor.shape for name, tensor in read(second)[0].items()}
    assert shapes == {"a.weight": (4, 12), "b.weight": (4, 12), "c.weight": (2, 4)}
    verdict = cs.verify(path, second)
    assert verdict.equivalent
    assert len(verdict.files[0].layers) == 3
    assert len(cs.verify(first, second).files[0].layers) == 2
    report = cs.restore(second, tmp_path / "again.safetensors")
    assert report.files[0].layers == ("a", "b", "c")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("layout", ["c p1 p2", "p1 p2 c"])
def test_there_and_back_by_two_swaps(layout: str, tmp_path: Path) -> None:
    path = model_file(tmp_path / "model.safetensors")
    there, back = tmp_path / "there.safetensors", tmp_path / "back.safetensors"
    cs.swap(path, there, layout=layout, geometry=STATED)
    cs.swap(there, back, to="conv")
    assert read(back)[0] == read(path)[0]
    assert [len(cs.verify(a, back).files[0].layers) for a in (path, there)] == [1, 1]
    assert cs.verify(path, back).equivalent
    cs.restore(back, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_sources_are_never_touched(tmp_path: Path) -> None:
    path = model_file(tmp_path / "model.safetensors")
    before, stamp = path.read_bytes(), path.stat().st_mtime_ns
    cs.swap(path, geometry=STATED)
    cs.swap(path, force=True, geometry=STATED, layout="p1 p2 c")
    assert (path.read_bytes(), path.stat().st_mtime_ns) == (before, stamp)
    assert read(path)[0] == model_tensors()
