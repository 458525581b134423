"""PyTorch files that are unsafe, damaged, or claim more than they hold: never run, always named."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from convsurgeon.errors import ConvsurgeonError, HeaderError, PickleError
from convsurgeon.store import read_pickle
from convsurgeon.untrusted import safe

torch = pytest.importorskip("torch")


class RunsCode:
    """Its pickle calls os.system."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def refused(path: Path) -> PickleError:
    with pytest.raises(PickleError) as caught:
        read_pickle(path)
    error = caught.value
    assert (error.code, error.where) == ("CS050", str(path))
    assert str(error).count("\n") == 0
    assert error.hint
    assert len(error.message) < 300
    assert "weights_only" not in str(error)  # torch's advice is to read it unsafely
    assert "two options" not in str(error)
    return error


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("nested", [False, True])
def test_code_is_not_run(tmp_path: Path, nested: bool, legacy: bool) -> None:
    marker = tmp_path / "executed"
    content: Any = RunsCode(marker)
    path = tmp_path / "m.pt"
    torch.save(
        {"w": torch.ones(2), "x": content} if nested else content,
        path,
        _use_new_zipfile_serialization=not legacy,
    )
    error = refused(path)
    assert not marker.exists()
    assert legacy or "posix.system" in error.message
    torch.load(path, weights_only=False)  # the file does what it says
    assert marker.exists()


def test_a_pickled_module(tmp_path: Path) -> None:
    torch.save(torch.nn.Conv2d(1, 2, 3), tmp_path / "m.pt")
    error = refused(tmp_path / "m.pt")
    assert "torch.nn.modules.conv.Conv2d" in error.message
    assert "state_dict" in error.hint
    assert safe(str(error)) == str(error)


def test_the_legacy_format(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "m.pt", _use_new_zipfile_serialization=False)
    assert "save its state_dict again" in refused(tmp_path / "m.pt").hint


def recompressed(path: Path) -> None:
    """The same archive, deflated: a megabyte of it could unpack to a gigabyte."""
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in members.items():
            new.writestr(name, content)


def test_a_deflate_bomb(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1 << 20)}, tmp_path / "m.pt")
    recompressed(tmp_path / "m.pt")
    assert (tmp_path / "m.pt").stat().st_size < 100_000
    refused(tmp_path / "m.pt")


TENSORS: dict[str, tuple[Any, str]] = {
    "four bytes that claim 32 GiB": (torch.ones(1).expand(1 << 33), "claims more bytes"),
    "expanded to just above the file": (torch.ones(1).expand(100, 100), "claims more bytes"),
    "sparse": (torch.eye(3).to_sparse(), "sparse"),
    "sparse rows": (torch.eye(3).to_sparse_coo().coalesce(), "sparse"),
    "without memory": (torch.empty(2, 2, device="meta"), "meta"),
    "double complex": (torch.ones(2, dtype=torch.complex128), "complex128"),
}


@pytest.mark.parametrize(("tensor", "word"), TENSORS.values(), ids=TENSORS.keys())
def test_tensors_that_no_file_can_hold(tmp_path: Path, tensor: Any, word: str) -> None:
    torch.save({"w": tensor}, tmp_path / "m.pt")
    error = refused(tmp_path / "m.pt")
    assert word in error.message
    assert "w " in error.message


@pytest.mark.parametrize("name", ["__metadata__", "a\ud800"])
def test_names_that_no_header_can_hold(tmp_path: Path, name: str) -> None:
    torch.save({name: torch.ones(2)}, tmp_path / "m.pt")
    with pytest.raises(HeaderError) as caught:
        read_pickle(tmp_path / "m.pt")
    assert (caught.value.code, caught.value.where) == ("CS040", str(tmp_path / "m.pt"))


PROGRAMS = {
    "nothing": b"",
    "nothing on the stack": b"\x80\x02.",
    "unknown memo": b"\x80\x02h\x05.",
    "setitem of nothing": b"\x80\x02K\x01s.",
    "text cut off": b"\x80\x02X\xff\xff\xff\x7f",
    "half a global": b"\x80\x02ctorch\nfoo\n.",
    "reduce of nothing": b"\x80\x02K\x01R.",
    "storage that is a number": b"\x80\x02K\x01Q.",
    "items of a list": b"\x80\x02]K\x01K\x02s.",
    "build of a number": b"\x80\x02K\x01}b.",
    "rebuild with nothing": b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R.",
    "unhashable key": b"\x80\x02}]K\x01s.",
    "no pickle": b"PK\x03\x04",
}


def with_program(path: Path, program: bytes) -> Path:
    torch.save({"w": torch.ones(2)}, path)
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, content in members.items():
            new.writestr(name, program if name.endswith("data.pkl") else content)
    return path


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS.keys())
def test_crafted_programs(tmp_path: Path, program: bytes) -> None:
    refused(with_program(tmp_path / "m.pt", program))


def test_a_dictionary_that_holds_itself(tmp_path: Path) -> None:
    """Walking it once for each of its places would take years."""
    items = b"".join(b"X\x02\x00\x00\x00%02dh\x00" % i for i in range(60))
    path = with_program(tmp_path / "m.pt", b"\x80\x02}q\x00(" + items + b"u.")
    assert len(torch.load(path, weights_only=True)) == 60
    with pytest.raises(PickleError) as caught:
        read_pickle(path)
    assert caught.value.code == "CS051"


def test_every_cut_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save({"w": torch.ones(2)}, path)
    whole = path.read_bytes()
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        with pytest.raises(ConvsurgeonError) as caught:
            read_pickle(path)
        assert caught.value.code in {"CS031", "CS050"}, size
        assert caught.value.where == str(path)


WITHOUT_TORCH = """
import sys
from pathlib import Path
if sys.argv[2] == "missing":
    sys.modules["torch"] = None
else:
    import torch
    torch.__version__ = sys.argv[2]
from convsurgeon.store import read_pickle
try:
    read_pickle(Path(sys.argv[1]))
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.parametrize(
    ("version", "word"),
    [("missing", "convsurgeon[torch]"), ("2.9.1+cpu", "2.9.1"), ("1.13", "holes")],
)
def test_torch_that_is_missing_or_unsafe(tmp_path: Path, version: str, word: str) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "m.pt")
    command = [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path / "m.pt"), version]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.startswith("PickleError ")
    assert "[CS052]" in ran.stdout
    assert word in ran.stdout
