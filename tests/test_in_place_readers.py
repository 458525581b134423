"""No byte of a tensor is written, and whoever has the file mapped notices nothing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import convsurgeon as cs
from tests.cli_helpers import EMBED, f32, model_file, model_tensors, write
from tests.in_place_cases import header_end, name_of, swap_in_place

WRITING = (
    "write,pwrite64,writev,pwritev,pwritev2,sendfile,copy_file_range,splice,fallocate,ftruncate,"
    "truncate,mmap,ioctl"
)
PWRITE = re.compile(r"pwrite64\(\d+<[^>]*>, .*, (\d+), (\d+)\) += (\d+)$")


def strace() -> str:
    found = shutil.which("strace")
    if found is None:
        pytest.skip("strace is not installed: which bytes of the file are written was NOT checked")
    return found


def beyond(log: str, path: Path, end: int) -> list[str]:
    """Lines of a log in which anything but the first `end` bytes of a file may be written.

    Every call that can write to it counts, except mappings that are private or read-only.
    """
    found = []
    for line in log.splitlines():
        if f"<{path}>" not in line:
            continue
        call = PWRITE.search(line)
        if call and int(call[1]) + int(call[2]) <= end:
            continue
        harmless = "MAP_PRIVATE" in line or "PROT_WRITE" not in line
        if "mmap(" in line and harmless:
            continue
        found.append(line)
    return found


@pytest.mark.parametrize("command", ["swap", "restore"])
def test_every_write_to_the_file_is_within_its_header(command: str, tmp_path: Path) -> None:
    path = model_file(tmp_path / "model.safetensors")
    options = [*EMBED, "--verify", "bits"] if command == "swap" else []
    if command == "restore":
        swap_in_place(path)
    log = tmp_path / "log"
    traced = [strace(), "-f", "-y", "-o", str(log), "-e", f"trace={WRITING}"]
    run = [sys.executable, "-m", "convsurgeon", command, str(path), "--in-place", *options]
    subprocess.run([*traced, *run], check=True, capture_output=True)
    lines = log.read_text("utf-8", "replace")
    assert beyond(lines, path, header_end(path)) == []
    assert PWRITE.search("\n".join(n for n in lines.splitlines() if f"<{path}>" in n))


@pytest.mark.parametrize(
    "line",
    [
        'pwrite64(3</f>, "x"..., 100, 1) = 100',
        'write(3</f>, "x", 1) = 1',
        "mmap(NULL, 9, PROT_READ|PROT_WRITE, MAP_SHARED, 3</f>, 0) = 0x7f",
        "ftruncate(3</f>, 5) = 0",
        "copy_file_range(4</g>, NULL, 3</f>, NULL, 5, 0) = 5",
        "fallocate(3</f>, FALLOC_FL_INSERT_RANGE, 0, 4096) = 0",
    ],
)
def test_the_check_of_the_log_can_fail(line: str) -> None:
    assert beyond(line, Path("/f"), 100) == [line]
    assert beyond('9 pwrite64(3</f>, "x"..., 92, 8) = 92', Path("/f"), 100) == []


def test_the_writes_as_python_sees_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = model_file(tmp_path / "model.safetensors")
    writes: list[tuple[int, int]] = []
    pwrite = os.pwrite

    def noted(fd: int, data: Any, at: int) -> int:
        if name_of(fd) == path.name:
            writes.append((at, at + len(data)))
        return pwrite(fd, data, at)

    monkeypatch.setattr(os, "pwrite", noted)
    swap_in_place(path)
    assert writes == [(8, header_end(path))]


# Maps the file in three ways, says so, and looks at every byte again and again until told to stop.
READER = """
import hashlib, mmap, sys
from pathlib import Path
path, end = Path(sys.argv[1]), int(sys.argv[2])
file = path.open("rb")
mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
tensors = {}
try:
    from safetensors import safe_open
    opened = safe_open(path, "pt")
    tensors = {name: opened.get_tensor(name) for name in opened.keys()}
    import torch
    whole = torch.from_file(str(path), size=path.stat().st_size, dtype=torch.uint8)
    tensors["from_file"] = whole[end:]
except ImportError:
    pass

def look():
    found = [hashlib.sha256(mapped[end:]).hexdigest()]
    return found + [hashlib.sha256(t.numpy().tobytes()).hexdigest() for t in tensors.values()]

first = look()
print("mapped", len(tensors), flush=True)
import selectors
waiting = selectors.DefaultSelector()
waiting.register(sys.stdin, selectors.EVENT_READ)
looks = 0
while not waiting.select(0):
    assert look() == first
    looks += 1
assert look() == first
if tensors:
    assert tuple(opened.get_tensor("embed.proj.weight").shape) == (8, 3, 2, 2)  # the header it read
print("looks", looks)
"""


def test_readers_that_have_it_mapped_see_no_change(tmp_path: Path) -> None:
    tensors = {**model_tensors(), "large": f32((256, 1024), 7)}
    path = write(tmp_path / "model.safetensors", tensors, {"format": "pt"})
    before = path.read_bytes()
    command = [sys.executable, "-c", READER, str(path), str(header_end(path))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdout
        first = reader.stdout.readline()
        for _ in range(10):
            swap_in_place(path)
            cs.restore(path, in_place=True)
        out, err = reader.communicate("stop\n")
    assert (first[:6], reader.returncode) == ("mapped", 0), err
    assert int(out.split()[1]) > 0
    assert path.read_bytes() == before
