"""A swap needs a few mebibytes, whatever the size of the file.

Two limits that a process cannot pass. Address space (`RLIMIT_AS`), which every process may limit
for itself: 64 MiB more than the interpreter holds once everything that a swap imports is imported.
It is the stricter measure of the two, since memory that was asked for counts whether it is used
or not, and all that is in use was asked for. And a memory cgroup of 64 MiB for the whole process,
which also counts the pages of the files that it reads and writes; it needs rights that CI may not
have, so it is long.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_files import write

from convsurgeon.header import Header, pack
from tests.files import listing

ROOM = 64 << 20
LIMITED = """
import resource, sys
import convsurgeon as cs
import convsurgeon.api.restoring, convsurgeon.api.swapping, convsurgeon.api.verifying, convsurgeon.cli
from convsurgeon.proof import compare
source, target, layout, back = sys.argv[1:]
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + %d
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
%s
"""
SWAPPED = """
cs.swap(source, target, geometry=["proj=s16"], verify="bits", layout=layout)
assert cs.verify(source, target, function=False).equivalent
cs.restore(target, back)
"""
LOADED = """
with open(source, "rb") as file:
    content = file.read()
"""


def model(megabytes: int) -> Header:
    """Half of it in the tensor that is rewritten."""
    rows = megabytes * 1_000_000 // 2 // (3 * 256 * 4)
    half = [("proj.weight", "F32", (rows, 3, 16, 16)), ("other", "U8", (megabytes * 500_000,))]
    return pack(half, {"format": "pt"})


def limited(
    folder: Path, megabytes: int, what: str, layout: str
) -> subprocess.CompletedProcess[str]:
    source = folder / "model.safetensors"
    write(source, model(megabytes))
    places = [source, folder / "out.safetensors", layout, folder / "back.safetensors"]
    command = [sys.executable, "-c", LIMITED % (ROOM, what), *map(str, places)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/statm").exists(), reason="the address space of a process is not told here"
)


@needs_proc
@pytest.mark.parametrize("layout", ["c p1 p2", "p1 p2 c"])
@pytest.mark.parametrize("megabytes", [160, pytest.param(1000, marks=pytest.mark.long)])
def test_address_space(tmp_path: Path, megabytes: int, layout: str) -> None:
    done = limited(tmp_path, megabytes, SWAPPED, layout)
    assert done.returncode == 0, done.stderr
    names = ["back.safetensors", "model.safetensors", "out.safetensors"]
    assert listing(tmp_path) == names
    subprocess.run(["cmp", tmp_path / names[0], tmp_path / names[1]], check=True)


@needs_proc
def test_the_limit_is_one(tmp_path: Path) -> None:
    done = limited(tmp_path, 160, LOADED, "")
    assert "MemoryError" in done.stderr


@pytest.fixture
def group() -> Iterator[Path]:
    """A memory cgroup of 64 MiB, of either version."""
    for root, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        place = root / f"convsurgeon-{os.getpid()}"
        try:
            place.mkdir()
            (place / limit).write_text(str(ROOM))
        except OSError:
            if place.is_dir():
                place.rmdir()
            continue
        yield place
        place.rmdir()
        return
    pytest.skip("no memory cgroup can be made here")


def inside(group: Path, *command: object) -> int:
    """Run a command in the group."""
    enter = 'echo $$ > "$0"/cgroup.procs && exec "$@"'
    words = ["sh", "-c", enter, str(group), *map(str, command)]
    return subprocess.run(words, capture_output=True, check=False).returncode


@pytest.mark.long
def test_a_gigabyte_in_a_memory_cgroup(tmp_path: Path, group: Path) -> None:
    source, target = tmp_path / "model.safetensors", tmp_path / "out.safetensors"
    write(source, model(1000))
    tool = (sys.executable, "-m", "convsurgeon")
    options = ("--geometry", "proj=s16", "--verify", "bits")
    assert inside(group, *tool, "swap", source, "-o", target, *options) == 0
    assert inside(group, *tool, "verify", source, target, "--bits") == 0
    assert inside(group, *tool, "restore", target, "-o", tmp_path / "back.safetensors") == 0
    held = f"content = open({str(source)!r}, 'rb').read()"
    assert inside(group, sys.executable, "-c", held) != 0
