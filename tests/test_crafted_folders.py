"""Every crafted folder through the commands; and nothing outside of it is ever opened."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import convsurgeon as cs
from convsurgeon.errors import ConvsurgeonError, RefusedError
from convsurgeon.store.index import weight_map_of
from tests.cli_helpers import STATED, document, invoke, listing, model_file, process
from tests.crafted_folders import FOLDERS, INDEX, TWO, made
from tests.test_crafted_files import line_of
from tests.test_header_hostile import peak_and_seconds

REFUSED = [name for name, (_, code, _) in FOLDERS.items() if code]
SAMPLE = [name for name in REFUSED if name.startswith(("shard", "name: parent"))][::2]
LISTENING: list[list[str]] = []


def remember(event: str, arguments: tuple[Any, ...]) -> None:
    if LISTENING and event == "open" and isinstance(arguments[0], str):
        LISTENING[-1].append(arguments[0])


sys.addaudithook(remember)  # there is no way to take it off again


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """The names that this process opens during a test."""
    LISTENING.append([])
    yield LISTENING[-1]
    LISTENING.pop()


@pytest.fixture(autouse=True)
def within_seconds() -> Iterator[None]:
    """A FIFO that is opened for reading would wait for ever."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def outside(opened: list[str], parent: Path) -> list[str]:
    outside = os.path.realpath(parent / "outside")
    return [
        name
        for name in opened
        if os.path.realpath(name).startswith((outside, "/dev", "/proc/self/mem"))
    ]


def test_there_are_enough() -> None:
    assert len(REFUSED) >= 60
    assert len(FOLDERS) - len(REFUSED) >= 4


@pytest.mark.parametrize("name", FOLDERS)
def test_scan(name: str, tmp_path: Path, opened: list[str]) -> None:
    _, code, words = FOLDERS[name]
    path = made(tmp_path, name)
    opened.clear()
    ran = invoke("scan", path)
    if code is None:
        assert (ran.code, ran.err) == (0, "")
    else:
        line = line_of(ran)
        assert ran.code == 3
        assert f"[{code}]; " in line
        assert words in line
        _, content = document("scan", path)
        assert [e["code"] for e in content["errors"]] == [code]
    if name != "index: link to a device":
        assert outside(opened, tmp_path) == []


def test_what_is_opened_is_seen(tmp_path: Path, opened: list[str]) -> None:
    made(tmp_path, "good")
    opened.clear()
    (tmp_path / "folder" / "way").symlink_to("../outside")
    (tmp_path / "folder" / "way" / "secret.safetensors").read_bytes()
    os.close(os.open(tmp_path / "folder" / "way" / "secret.safetensors", os.O_RDONLY))
    assert len(outside(opened, tmp_path)) == 2


@pytest.mark.parametrize("name", SAMPLE)
def test_the_other_commands(name: str, tmp_path: Path, opened: list[str]) -> None:
    _, code, words = FOLDERS[name]
    path = made(tmp_path, name)
    good = model_file(tmp_path / "good.safetensors")
    names = sorted(p.name for p in tmp_path.rglob("*"))
    opened.clear()
    for arguments in (
        ("swap", path, "-o", tmp_path / "out"),
        ("verify", path, good),
        ("verify", good, path),
        ("bench", path),
    ):
        ran = invoke(*arguments)
        assert ran.code == 3, arguments
        line = line_of(ran)
        assert f"[{code}]; " in line, arguments
        assert words in line, arguments
    assert outside(opened, tmp_path) == []
    assert sorted(p.name for p in tmp_path.rglob("*")) == names


@pytest.mark.parametrize("name", ["shard: FIFO", "shard: link out", "name: terminal escape"])
def test_the_real_command_line_and_load(name: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    _, code, _ = FOLDERS[name]
    path = made(tmp_path, name)
    ran = process("scan", path)
    assert ran.code == 3
    assert f"[{code}]" in line_of(ran)
    with pytest.raises(ConvsurgeonError) as caught:
        cs.load(torch.nn.Conv2d(1, 1, 1), path)
    assert caught.value.code == code


def test_a_device_as_a_shard(tmp_path: Path) -> None:
    path = made(tmp_path, "good")
    (path.parent / TWO).unlink()
    try:
        os.mknod(path.parent / TWO, 0o666 | 0o020000, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        pytest.skip("only root makes devices")
    ran = invoke("scan", path)
    assert "[CS037]" in line_of(ran)


@pytest.mark.parametrize("kind", ["file", "index"])
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir], ids=["FIFO", "folder"])
def test_a_path_that_is_no_file(kind: str, make: Any, tmp_path: Path) -> None:
    path = tmp_path / ("model.safetensors" if kind == "file" else INDEX)
    make(path)
    for arguments in (("scan", path), ("swap", path), ("verify", path), ("restore", path)):
        ran = invoke(*arguments)
        assert ran.code == 3, arguments
        assert "Traceback" not in ran.err + ran.out


def test_memory_of_a_huge_index(tmp_path: Path) -> None:
    path = made(tmp_path, "index: 100,000 entries")
    content = path.read_bytes()
    imported = "from convsurgeon.store.index import weight_map_of as parse"
    peak, seconds = peak_and_seconds(content, tmp_path, imported)
    assert peak <= 20 * len(content) + 64_000_000
    assert seconds < 10
    ran = invoke("scan", path, "--max-header-bytes", 1_000_000)
    assert "[CS045]; --max-header-bytes raises the limit" in line_of(ran)


def test_a_weight_map_keeps_what_the_index_says() -> None:
    assert weight_map_of(b'{"weight_map":{"a":"x","b":"y"}}') == {"a": "x", "b": "y"}


# --- side files


SECRET = b"-----BEGIN OPENSSH PRIVATE KEY-----"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with a file to swap; the secret lies outside."""
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "m").mkdir()
    model_file(tmp_path / "m" / "model.safetensors")
    (tmp_path / "m" / "tokenizer.json").write_text("{}")
    return tmp_path / "m"


@pytest.mark.parametrize("absolute", [True, False])
@pytest.mark.parametrize("recursive", [True, False])
def test_a_side_file_that_is_a_link_out_is_not_copied(
    model: Path, absolute: bool, recursive: bool
) -> None:
    secret = model.parent / "secret"
    (model / "vocab.txt").symlink_to(secret if absolute else "../secret")
    before = listing(model.parent)
    with pytest.raises(RefusedError) as caught:
        cs.swap(model, geometry=STATED, recursive=recursive, verify="bits")
    assert (caught.value.code, caught.value.where) == ("CS042", str(model / "vocab.txt"))
    assert listing(model.parent) == before


def test_the_way_back_does_not_follow_it_either(model: Path) -> None:
    cs.swap(model, geometry=STATED, verify="bits")
    swapped = model.with_name("m.linear")
    (swapped / "vocab.txt").symlink_to("../secret")
    before = listing(model.parent)
    with pytest.raises(RefusedError, match="link out of the folder"):
        cs.restore(swapped, model.parent / "back")
    assert listing(model.parent) == before


def test_links_that_stay_inside_are_followed(model: Path) -> None:
    (model / "vocab.json").symlink_to("tokenizer.json")
    (model / "deep").mkdir()
    (model / "deep" / "up.json").symlink_to("../tokenizer.json")
    cs.swap(model, geometry=STATED, verify="bits", recursive=True)
    out = listing(model.with_name("m.linear"))
    assert (out["vocab.json"], out["deep/up.json"]) == (b"{}", b"{}")


def test_links_of_the_hubs_cache_are_followed(model: Path) -> None:
    snapshot = model.parent / "models--x" / "snapshots" / "rev"
    blobs = model.parent / "models--x" / "blobs"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(model.iterdir())):
        shutil.move(path, blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    cs.swap(snapshot, model.parent / "out", geometry=STATED, verify="bits")
    assert (model.parent / "out" / "tokenizer.json").read_bytes() == b"{}"


def test_a_swap_of_a_folder_with_a_fifo_and_a_socket_ends(model: Path) -> None:
    os.mkfifo(model / "pipe")
    cs.swap(model, geometry=STATED, verify="bits")
    assert sorted(listing(model.with_name("m.linear"))) == ["model.safetensors", "tokenizer.json"]


# --- journals and sidecars that somebody else put there


def holding(content: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content)


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 40)


BESIDE: dict[str, Callable[[Path], object]] = {
    "FIFO": os.mkfifo,
    "folder": Path.mkdir,
    "link to another file": lambda path: path.symlink_to("other"),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to nothing": lambda path: path.symlink_to("absent"),
    "empty": holding(b""),
    "lists": holding(b"[" * 1_000_000),
    "objects": holding(b'{"schema":' * 100_000),
    "a terabyte": huge,
}


@pytest.mark.parametrize("suffix", [".convsurgeon-journal", ".convsurgeon.json"])
@pytest.mark.parametrize("kind", BESIDE)
def test_what_lies_beside_a_file(kind: str, suffix: str, tmp_path: Path) -> None:
    path = model_file(tmp_path / "m.safetensors")
    (tmp_path / "other").write_bytes(SECRET)
    before = path.read_bytes()
    BESIDE[kind](path.with_name(f"{path.name}{suffix}"))
    names = sorted(p.name for p in tmp_path.iterdir())
    for arguments in (("scan", path), ("swap", path, "--geometry", "*=s2"), ("restore", path)):
        ran = invoke(*arguments)
        line = line_of(ran)
        assert ran.code == 3
        assert re.search(r"\[CS0(30|37|76|77|78)\]; ", line), line
        assert SECRET.decode() not in line
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == names
