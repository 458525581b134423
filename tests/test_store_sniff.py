"""Files that are not what their names say are called by their right names."""

from __future__ import annotations

import gzip
import os
import pickle
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from convsurgeon.errors import ConvsurgeonError, HeaderError, UnreadableError
from convsurgeon.store import read_checkpoint, read_safetensors, read_shards
from convsurgeon.store.find import ReadOptions
from tests.crafted_headers import FINE
from tests.files import checkpoint, framed, unprivileged

torch = pytest.importorskip("torch")

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 123\n"
GGUF = b"GGUF" + (3).to_bytes(4, "little") + bytes(64)
ZSTD = b"\x28\xb5\x2f\xfd" + bytes(range(60))
TEXT_OF_123 = FINE + " " * (123 - len(FINE))

CONTENTS: dict[str, tuple[bytes, str, str]] = {
    "empty": (b"", "CS031", "is empty"),
    "one byte": (b"\x08", "CS036", "too short"),
    "seven bytes": (bytes(7), "CS036", "too short"),
    "shorter than its header": (framed(FINE, length=1000), "CS036", "truncated"),
    "LFS pointer": (LFS, "CS033", "Git LFS pointer"),
    "HTML": (b"<!DOCTYPE html><html><body>401</body></html>", "CS034", "web page"),
    "HTML after blank lines": (b"\n\n  <html lang='en'>" + b" " * 60, "CS034", "web page"),
    "XML": (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "CS034", "web page"),
    "JSON": (b'{"error": "not found", "code": 404}', "CS035", "JSON"),
    "short JSON": (b"{}", "CS035", "JSON"),
    "text": (b"Entry not found\r\n\tsee the page\n", "CS035", "text file"),
    "text of two bytes": (b"hi", "CS036", "too short"),
    "raw pickle": (pickle.dumps({"w": list(range(99))}, 2), "CS035", "pickle"),
    "raw pickle, protocol 3": (pickle.dumps({"w": list(range(99))}, 3), "CS035", "pickle"),
    "raw pickle, protocol 4": (pickle.dumps({"w": list(range(99))}, 4), "CS035", "pickle"),
    "raw pickle, protocol 5": (pickle.dumps({"w": list(range(99))}, 5), "CS035", "pickle"),
    "gzip": (gzip.compress(b"x" * 999, mtime=1_700_000_000), "CS035", "gzip"),
    "gzip without a time": (gzip.compress(b"x" * 999, mtime=0), "CS035", "gzip"),
    "GGUF": (GGUF, "CS035", "GGUF"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(64), "CS035", "HDF5"),
    "NumPy": (b"\x93NUMPY\x01\x00v\x00{'descr'", "CS035", "NumPy"),
    "Zstandard": (ZSTD, "CS035", "Zstandard"),
}  # fmt: skip


def refused(read: Callable[[Path], object], path: Path) -> ConvsurgeonError:
    """The error, with what every one of them has: one line, the file's name, a next step."""
    with pytest.raises(ConvsurgeonError) as caught:
        read(path)
    error = caught.value
    assert str(error).count("\n") == 0
    assert error.where == str(path)
    assert str(error).startswith(f"{path}: {error.message} [{error.code}]")
    return error


@pytest.mark.parametrize(("content", "code", "words"), CONTENTS.values(), ids=CONTENTS.keys())
def test_content(tmp_path: Path, content: bytes, code: str, words: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    error = refused(read_safetensors, path)
    assert type(error) is UnreadableError
    assert error.code == code
    assert words in error.message
    assert error.hint


def test_a_torch_file_under_the_wrong_name(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    torch.save({"w": torch.ones(2)}, path)
    error = refused(read_safetensors, path)
    assert (type(error), error.code) == (UnreadableError, "CS035")
    assert ".pt" in error.message
    assert error.hint


@pytest.mark.parametrize("name", ["model.pt", "pytorch_model.bin", "m.safetensors.index.json"])
@pytest.mark.parametrize("kind", ["empty", "LFS pointer", "HTML"])
def test_what_is_no_weights_under_any_name(tmp_path: Path, name: str, kind: str) -> None:
    content, code, words = CONTENTS[kind]
    path = tmp_path / name
    path.write_bytes(content)
    error = refused(lambda p: read_checkpoint(p, ReadOptions()), path)
    assert (type(error), error.code) == (UnreadableError, code)
    assert words in error.message
    assert error.hint


def folder(path: Path) -> None:
    path.mkdir()


def fifo(path: Path) -> None:
    os.mkfifo(path)


def null_device(path: Path) -> None:
    path.symlink_to("/dev/null")


def endless_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


def nothing(path: Path) -> None:
    assert not path.exists()


def link_to_nothing(path: Path) -> None:
    path.symlink_to("nowhere")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".safetensors.index.json"])
@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (folder, "CS037", "folder"),
        (fifo, "CS037", "no regular file"),
        (null_device, "CS037", "no regular file"),
        (endless_device, "CS037", "no regular file"),
        (listening, "CS037", "cannot be read"),
        (link_to_itself, "CS037", "symbolic links"),
        (nothing, "CS030", "no such file"),
        (link_to_nothing, "CS030", "no such file"),
    ],
)
def test_no_regular_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    suffix: str,
    make: Callable[[Path], None],
    code: str,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)  # the address of a socket is short
    path = tmp_path / f"m{suffix}"
    make(path)
    error = refused(lambda p: read_checkpoint(p, ReadOptions()), path)
    assert (type(error), error.code) == (UnreadableError, code)
    assert words in error.message
    assert error.hint


def test_permission_denied(tmp_path: Path) -> None:
    checkpoint(tmp_path / "m.safetensors", {"a": (1,)}).chmod(0)
    with unprivileged(tmp_path):
        error = refused(read_safetensors, Path("m.safetensors"))
    assert (type(error), error.code) == (UnreadableError, "CS037")
    assert "Permission denied" in error.message
    assert "permissions" in error.hint


def test_a_length_of_123_is_no_json(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(framed(TEXT_OF_123, bytes(4)))
    assert path.read_bytes()[:1] == b"{"
    assert read_safetensors(path).header_length == 123
    path.write_bytes(framed(" " + TEXT_OF_123[:-1], bytes(4)))
    error = refused(read_safetensors, path)
    assert (type(error), error.code) == (HeaderError, "CS040")


def test_an_index_is_no_safetensors_file(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "m.safetensors", {"a": (1,)})
    error = refused(read_shards, path)
    assert error.code == "CS045"
