"""Recovery: what the next command does with a journal, and with one that it must not believe."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import convsurgeon as cs
from convsurgeon.errors import ConvsurgeonError
from convsurgeon.store import Journal, journal_of, recover
from tests.cli_helpers import STATED, invoke, model_file, model_shards
from tests.files import NOBODY, unprivileged
from tests.in_place_cases import Content, Cut, content, cut_at, header_end, swap_in_place, tear


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Content]:
    """A file whose header is the old one, beside a journal; and what was there before."""
    path = model_file(tmp_path / "model.safetensors")
    before = content(tmp_path)
    with cut_at(monkeypatch, "put"), pytest.raises(Cut):
        swap_in_place(path)
    assert journal_of(path).exists()
    return path, before


COMMANDS: dict[str, Callable[[Path], object]] = {
    "scan": lambda path: invoke("scan", path),
    "swap": lambda path: invoke("swap", path, "--dry-run"),
    "verify": lambda path: invoke("verify", path, path),
    "restore": lambda path: invoke("restore", path),
    "bench": lambda path: invoke("bench", path),
    "folder": lambda path: invoke("scan", path.parent),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_command_recovers(
    left: tuple[Path, Content], command: Callable[[Path], object]
) -> None:
    path, before = left
    tear(path)
    assert path.read_bytes() != before[path.name]
    command(path)
    assert content(path.parent) == before


def test_load_recovers(left: tuple[Path, Content]) -> None:
    torch = pytest.importorskip("torch")
    path, before = left
    tear(path)
    with pytest.raises(ConvsurgeonError):
        cs.load(torch.nn.Linear(1, 1), path)
    assert content(path.parent) == before


def test_a_folder_that_is_copied_recovers_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = model_shards(tmp_path / "vit")
    extra = model_file(index.with_name("model-9-of-9.safetensors"))  # the index does not name it
    before = extra.read_bytes()
    with cut_at(monkeypatch, "put"), pytest.raises(Cut):
        swap_in_place(extra)
    tear(extra)
    cs.swap(index.parent, geometry=STATED, verify="bits")
    assert (tmp_path / "vit.linear" / extra.name).read_bytes() == before
    assert not journal_of(extra).exists()


def test_a_link_to_the_file_leads_to_its_journal(
    left: tuple[Path, Content], tmp_path: Path
) -> None:
    path, before = left
    tear(path)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "a.safetensors").symlink_to(path)
    cs.scan(tmp_path / "links" / "a.safetensors")
    assert path.read_bytes() == before[path.name]
    assert not journal_of(path).exists()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.9])
def test_a_torn_header_goes_back(left: tuple[Path, Content], share: float) -> None:
    path, before = left
    tear(path, share)
    recover(path)
    assert content(path.parent) == before


def test_a_whole_new_header_goes_forward(left: tuple[Path, Content], tmp_path: Path) -> None:
    path, before = left
    tear(path, 1)
    recover(path)
    after = content(path.parent)
    (path.parent / "again").mkdir()
    again = path.parent / "again" / path.name
    again.write_bytes(before[path.name])
    swap_in_place(again)
    assert after == content(again.parent)


def test_sectors_in_any_order_go_back(left: tuple[Path, Content]) -> None:
    path, before = left
    journal = Journal.parse(journal_of(path).read_bytes())
    new = journal.members[0].new.prefix
    for mask in range(8):
        data = bytearray(before[path.name])
        for block in range(3):
            if mask >> block & 1:
                part = slice(512 * block, min(512 * (block + 1), len(new)))
                data[part] = new[part]
        path.write_bytes(data)
        place, text = journal_of(path), journal.to_bytes()
        place.write_bytes(text)
        recover(path)
        whole_new = bytes(data[: len(new)]) == new
        assert (path.read_bytes() == before[path.name]) != whole_new
        assert not place.exists()
        if whole_new:
            (path.parent / f"{path.name}.convsurgeon.json").unlink()
            path.write_bytes(before[path.name])


def test_recovery_writes_and_syncs_what_reads_well(
    left: tuple[Path, Content], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in the page cache may not be on the disk: an earlier sync may have failed."""
    path, _ = left
    synced: list[int] = []
    fsync = os.fsync

    def noted(fd: int) -> None:
        synced.append(os.fstat(fd).st_ino)
        fsync(fd)

    monkeypatch.setattr(os, "fsync", noted)
    was = path.stat().st_mtime_ns
    recover(path)
    assert path.stat().st_ino in synced
    assert path.stat().st_mtime_ns > was


def useless(path: Path, what: str) -> None:
    """The journal is refused, and neither it nor the file changes."""
    before = content(path.parent)
    for act in (cs.scan, swap_in_place, cs.verify, lambda p: cs.restore(p, in_place=True)):
        with pytest.raises(ConvsurgeonError) as caught:
            act(path)
        assert (caught.value.code, caught.value.exit_code) == ("CS077", 3)
        assert what in caught.value.message
        assert caught.value.hint
    assert content(path.parent) == before


def test_a_copy_is_not_written_to(left: tuple[Path, Content], tmp_path: Path) -> None:
    path, _ = left
    tear(path)
    copy = tmp_path / "copy"
    copy.mkdir()
    for source in (path, journal_of(path)):
        shutil.copy2(source, copy)
    useless(copy / path.name, "a copy or another")


def test_a_file_of_another_size(left: tuple[Path, Content]) -> None:
    path, _ = left
    with path.open("ab") as file:
        file.write(b"\0")
    useless(path, "a copy or another")


def test_a_file_that_others_wrote_to(left: tuple[Path, Content]) -> None:
    path, _ = left
    with path.open("r+b") as file:
        file.seek(header_end(path) - 2)
        file.write(b"\t")
    useless(path, "another program")


def test_a_file_and_its_journal_under_another_name(left: tuple[Path, Content]) -> None:
    path, _ = left
    moved = path.rename(path.with_name("moved.safetensors"))
    journal_of(path).rename(journal_of(moved))
    useless(moved, "another name")


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda text: b"",
    "one byte less": lambda text: text[:-1],
    "one byte more": lambda text: text + b"x",
    "a bit of the digest": lambda text: text[:30] + bytes([text[30] ^ 1]) + text[31:],
    "a bit of the old header": lambda text: text[:-900] + bytes([text[-900] ^ 1]) + text[-899:],
    "another version": lambda text: text.replace(b"journal/1", b"journal/2", 1),
    "no journal": lambda text: b"hello\nworld\n",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_journal(left: tuple[Path, Content], damage: Callable[[bytes], bytes]) -> None:
    path, _ = left
    tear(path)
    place = journal_of(path)
    place.write_bytes(damage(place.read_bytes()))
    useless(path, "cannot be used")


def sealed(text: bytes) -> bytes:
    """A journal whose digest holds whatever it says."""
    import hashlib

    return b"convsurgeon-journal/1 " + hashlib.sha256(text).hexdigest().encode() + b"\n" + text


FORGED: dict[str, Callable[[bytes], bytes]] = {
    "no object": lambda body: b"[]\n",
    "no fields": lambda body: b"{}\n",
    "a name that is a path": lambda body: body.replace(
        b'"model.safetensors"', b'"../el.safetensors"'
    ),
    "a name that is a number": lambda body: body.replace(b'"model.safetensors"', b"1"),
    "an inode of another kind": lambda body: body.replace(b'"inode": ', b'"inode": "x'),
    "files that are none": lambda body: b'{"leader": "model.safetensors", "members": [1]}\n',
    "no headers": lambda body: (
        b'{"leader": "model.safetensors", "members": [{"name": "model.safetensors",'
        b' "inode": 1, "size": 1, "lengths": [null, null, null, null]}]}\n'
    ),
    "too few lengths": lambda body: body.replace(b", null, ", b", "),
    "other tensors": lambda body: body.replace(b'"F32"', b'"I32"', 1),
    "a longer header": lambda body: body.replace(b'"__metadata__"', b'"__metadata__" ', 1),
    "more than it says": lambda body: body + b"x",
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_forged_journal(left: tuple[Path, Content], forge: Callable[[bytes], bytes]) -> None:
    path, _ = left
    place = journal_of(path)
    body = place.read_bytes().partition(b"\n")[2]
    assert forge(body) != body
    place.write_bytes(sealed(forge(body)))
    useless(path, "cannot be used")


def test_what_is_no_regular_file(left: tuple[Path, Content]) -> None:
    path, _ = left
    place = journal_of(path)
    place.unlink()
    place.mkdir()
    with pytest.raises(ConvsurgeonError) as caught:
        recover(path)
    assert caught.value.code == "CS077"


def test_a_link_to_nothing(left: tuple[Path, Content]) -> None:
    """Nobody is at work, and to wait for the end of a run would be in vain."""
    path, before = left
    place = journal_of(path)
    moved = place.rename(path.parent.parent / "moved")
    place.symlink_to(path.parent / "nothing")
    for act in (cs.scan, swap_in_place, cs.verify, lambda p: cs.restore(p, in_place=True)):
        with pytest.raises(ConvsurgeonError) as caught:
            act(path)
        assert (caught.value.code, caught.value.where) == ("CS077", str(path))
        assert "a symbolic link to nothing" in caught.value.message
        assert f"remove {place.name}" in caught.value.hint
    assert place.is_symlink()
    place.unlink()
    moved.rename(place)
    recover(path)
    assert content(path.parent) == before


def test_the_journal_of_another_user(left: tuple[Path, Content]) -> None:
    path, before = left
    if os.geteuid():
        pytest.skip("only root can give files away")
    tear(path)
    os.chown(journal_of(path), NOBODY, -1)
    useless(path, "another user")
    os.chown(path, NOBODY, -1)  # now it is one of the file's own
    recover(path)
    assert content(path.parent) == before


def test_a_read_only_file_is_explained(left: tuple[Path, Content]) -> None:
    path, before = left
    tear(path)
    path.chmod(0o444)
    useless(path, "has to be undone first")
    path.chmod(0o644)
    recover(path)
    assert content(path.parent) == before


def test_a_read_only_folder_is_explained(left: tuple[Path, Content]) -> None:
    path, before = left
    if os.geteuid():
        pytest.skip("only root can own a folder that somebody else tries to write to")
    path.chmod(0o666)
    with unprivileged(path.parent):
        os.seteuid(0)
        path.parent.chmod(0o555)
        os.chown(path.parent, 0, 0)
        os.seteuid(65534)
        with pytest.raises(ConvsurgeonError) as caught:
            recover(Path(path.name))
    assert (caught.value.code, "writable" in caught.value.hint) == ("CS077", True)
    path.parent.chmod(0o755)
    recover(path)
    assert content(path.parent) == before


def test_a_file_that_is_gone(left: tuple[Path, Content]) -> None:
    path, _ = left
    path.unlink()
    with pytest.raises(ConvsurgeonError, match="no such file"):
        recover(path)
    assert journal_of(path).exists()


def test_a_new_output_takes_the_place_of_an_unfinished_one(
    left: tuple[Path, Content], tmp_path: Path
) -> None:
    path, _ = left
    tear(path)
    other = model_file(tmp_path / "other" / "other.safetensors")
    cs.swap(other, path, geometry=STATED, verify="bits", force=True)
    assert not journal_of(path).exists()
    assert cs.verify(path).equivalent
