"""What is not rewritten in place, each with its code; nothing changes."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import convsurgeon as cs
from convsurgeon.errors import ConvsurgeonError, OutputError
from convsurgeon.store import sidecar_of
from tests.cli_helpers import EMBED, STATED, document, invoke, model_file, model_shards
from tests.files import unprivileged
from tests.in_place_cases import CASES, content, header_end, padded, swap_in_place


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return model_file(tmp_path / "model.safetensors")


def refused(act: Callable[[], object]) -> ConvsurgeonError:
    with pytest.raises(ConvsurgeonError) as caught:
        act()
    assert caught.value.hint
    assert caught.value.exit_code == 3
    return caught.value


def test_a_symbolic_link(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.safetensors"
    link.symlink_to(path)
    before = path.read_bytes()
    error = refused(lambda: swap_in_place(link))
    assert (error.code, error.where) == ("CS074", str(link))
    assert "symbolic link" in error.message
    assert path.read_bytes() == before
    swap_in_place(path)
    assert refused(lambda: cs.restore(link, in_place=True)).code == "CS074"


def test_several_hard_links(path: Path, tmp_path: Path) -> None:
    os.link(path, tmp_path / "twin")
    before = content(tmp_path)
    error = refused(lambda: swap_in_place(path))
    assert (error.code, "2 hard links" in error.message) == ("CS074", True)
    assert content(tmp_path) == before


@pytest.mark.parametrize(
    ("place", "beside", "is_cache"),
    [
        ("hub/models--a--b/blobs/0123", "", True),
        ("somewhere/blobs/model.safetensors", "", True),
        ("hub/models--a--b/snapshots/main/model.safetensors", "", True),
        ("hub/own/snapshots/main/vae/model.safetensors", "refs", True),
        ("hub/own/snapshots/main/model.safetensors", "blobs", True),
        ("training/snapshots/step-100/model.safetensors", "", False),
        ("blobs.safetensors", "", False),
    ],
)
def test_a_cache_of_downloads(place: str, beside: str, is_cache: bool, tmp_path: Path) -> None:
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    model_file(path)
    if beside:
        (tmp_path / "hub" / "own" / beside).mkdir()
    if not is_cache:
        assert swap_in_place(path).files[0].outcome == "written"
        return
    error = refused(lambda: swap_in_place(path))
    assert (error.code, "cache" in error.message) == ("CS074", True)


def test_a_cache_behind_a_link_to_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "models--a--b" / "snapshots" / "main"
    folder.mkdir(parents=True)
    model_file(folder / "model.safetensors")
    (tmp_path / "mine").symlink_to(folder)
    assert refused(lambda: swap_in_place(tmp_path / "mine" / "model.safetensors")).code == "CS074"


def test_a_file_behind_a_link_to_a_folder_is_a_file(path: Path, tmp_path: Path) -> None:
    (tmp_path / "to").symlink_to(tmp_path)
    swap_in_place(tmp_path / "to" / path.name)
    assert sidecar_of(path).exists()


def test_a_file_with_a_read_only_mode(path: Path) -> None:
    path.chmod(0o444)
    before, was = content(path.parent), path.stat()
    error = refused(lambda: swap_in_place(path))  # also as root, who could write to it
    assert (error.code, "read-only by its mode" in error.message) == ("CS079", True)
    assert (content(path.parent), path.stat()) == (before, was)


def test_a_file_that_the_user_may_not_write(path: Path) -> None:
    path.chmod(0o644)
    if os.geteuid():
        pytest.skip("only root can own a file that somebody else tries to write")
    with unprivileged(path.parent):
        error = refused(lambda: swap_in_place(Path(path.name)))
    assert (error.code, "Permission denied" in error.message) == ("CS079", True)


def test_an_immutable_file(path: Path) -> None:
    chattr = shutil.which("chattr")
    if (
        chattr is None
        or subprocess.run([chattr, "+i", path], check=False, capture_output=True).returncode
    ):
        pytest.skip("no immutable files here: not root, or the file system has none")
    try:
        error = refused(lambda: swap_in_place(path))
    finally:
        subprocess.run([chattr, "-i", str(path)], check=True)
    assert error.code == "CS079"


def test_a_folder_that_takes_no_journal(path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can own a folder that somebody else tries to write to")
    path.chmod(0o666)
    before = content(path.parent)
    with unprivileged(path.parent):
        os.seteuid(0)
        path.parent.chmod(0o555)
        os.chown(path.parent, 0, 0)
        os.seteuid(65534)
        error = refused(lambda: swap_in_place(Path(path.name)))
    assert error.code == "CS071"
    assert content(path.parent) == before


def test_weights_that_are_permuted(path: Path) -> None:
    before = content(path.parent)
    error = refused(lambda: swap_in_place(path, layout="p1 p2 c"))
    assert (error.code, "embed.proj is permuted to p1 p2 c" in error.message) == ("CS075", True)
    assert content(path.parent) == before
    assert refused(lambda: swap_in_place(path, layout="p1 p2 c", dry_run=True)).code == "CS075"


def test_weights_that_would_have_to_be_permuted_back(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    cs.swap(path, out, geometry=STATED, layout="p1 p2 c", verify="bits")
    before = content(tmp_path)
    error = refused(lambda: cs.restore(out, in_place=True))
    assert (error.code, "have to move back" in error.message) == ("CS075", True)
    assert content(tmp_path) == before


def test_tensors_that_are_named_anew(tmp_path: Path) -> None:
    path = padded(tmp_path / "model.safetensors", 4096)
    before = content(tmp_path)
    error = refused(lambda: swap_in_place(path, child_keys=True))
    assert (error.code, "other names" in error.message) == ("CS075", True)
    assert content(tmp_path) == before
    out = tmp_path / "out.safetensors"
    cs.swap(path, out, geometry=STATED, verify="bits", child_keys=True)
    assert header_end(out) == header_end(path)
    error = refused(lambda: cs.restore(out, in_place=True))
    assert (error.code, "other names" in error.message) == ("CS075", True)


def test_a_header_of_another_length(path: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    cs.swap(path, out, geometry=STATED, verify="bits")
    error = refused(lambda: cs.restore(out, in_place=True))
    assert (error.code, "another length" in error.message) == ("CS075", True)


def test_shapes_that_do_not_fit(tmp_path: Path) -> None:
    path = padded(tmp_path / "model.safetensors", 0)
    before = content(tmp_path)
    shape: dict[str, Any] = {"to": "conv", "layers": ["head"], "input_shape": ["head=2x2x2"]}
    error = refused(lambda: cs.swap(path, in_place=True, verify="bits", **shape))
    assert (error.code, "do not fit" in error.message) == ("CS075", True)
    assert content(tmp_path) == before


def test_a_pytorch_file(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "model.pth"
    torch.save({"embed.proj.weight": torch.zeros(8, 3, 2, 2)}, path)
    error = refused(lambda: swap_in_place(path))
    assert (error.code, "PyTorch" in error.message) == ("CS075", True)


@pytest.mark.parametrize("option", [["-o", "out.safetensors"], ["--force"], ["--link"]])
def test_options_about_an_output(path: Path, option: list[str]) -> None:
    code, found = document("swap", path, *EMBED, "--in-place", *option)
    assert (code, found["errors"][0]["code"]) == (2, "CS090")
    assert option[0] in found["errors"][0]["message"]
    if option != ["--link"]:
        assert invoke("restore", path, "--in-place", *option).code == 2


def test_a_second_run(path: Path) -> None:
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        before = content(path.parent)
        error = refused(lambda: swap_in_place(path))
        assert (error.code, error.where) == ("CS078", str(path))
        assert content(path.parent) == before
        assert cs.scan(path, geometry=STATED).files  # no journal: reading is free
    assert swap_in_place(path).files[0].outcome == "written"


def test_readers_are_told_of_a_run_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from convsurgeon.store import in_place

    case, errors = CASES["with a sidecar"], []
    _, new = case.both(tmp_path)
    put = in_place.put

    def looked_at(*args: Any) -> None:
        errors.append(refused(lambda: case.settle(tmp_path)))
        errors.append(refused(lambda: case.act(tmp_path)))
        put(*args)

    monkeypatch.setattr(in_place, "put", looked_at)
    case.act(tmp_path)
    assert [error.code for error in errors] == ["CS078", "CS078"]
    assert content(tmp_path) == new


def test_a_file_that_is_replaced_while_it_is_locked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flock = fcntl.flock

    def replaced(fd: int, how: int) -> None:
        flock(fd, how)
        other = path.with_name("other")
        other.write_bytes(path.read_bytes())
        other.replace(path)

    monkeypatch.setattr(fcntl, "flock", replaced)
    assert refused(lambda: swap_in_place(path)).code == "CS078"


def test_a_file_without_locks(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    error = refused(lambda: swap_in_place(path))
    assert (error.code, "No locks available" in error.message) == ("CS079", True)


def test_a_file_that_changes_during_the_proofs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from convsurgeon.api.work import Worker

    prove = Worker.prove

    def slow(self: Worker, *args: Any) -> Any:
        found = prove(self, *args)
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        return found

    monkeypatch.setattr(Worker, "prove", slow)
    assert refused(lambda: swap_in_place(path)).code == "CS038"
    assert content(path.parent).keys() == {path.name}


def test_a_link_that_is_made_during_the_proofs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from convsurgeon.api.work import Worker

    prove = Worker.prove

    def slow(self: Worker, *args: Any) -> Any:
        found = prove(self, *args)
        os.link(path, path.with_name("twin"))
        return found

    monkeypatch.setattr(Worker, "prove", slow)
    assert refused(lambda: swap_in_place(path)).code == "CS074"


def test_headers_too_large_for_a_journal(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from convsurgeon.store import journal

    before = content(path.parent)
    monkeypatch.setattr(journal, "MAX_BYTES", 100)
    assert refused(lambda: swap_in_place(path)).code == "CS075"
    assert content(path.parent) == before


def test_shards_of_which_one_is_linked(tmp_path: Path) -> None:
    index = model_shards(tmp_path)
    os.link(tmp_path / "model-00001-of-00002.safetensors", tmp_path / "twin")
    before = content(tmp_path)
    assert refused(lambda: swap_in_place(index)).code == "CS074"
    assert content(tmp_path) == before


def test_the_restored_name_is_the_file_itself(path: Path) -> None:
    swap_in_place(path)
    with pytest.raises(OutputError) as caught:
        cs.restore(path)
    assert (caught.value.code, "--in-place" in caught.value.hint) == ("CS072", True)
