"""On file systems that share blocks, a swap takes the room of what it changed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import convsurgeon as cs
from convsurgeon.header import lay_out, pack

pytestmark = pytest.mark.long
SIZE = 64 << 20


@pytest.fixture(params=["xfs", "btrfs"])
def mounted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A new file system in a file."""
    make, image, place = f"mkfs.{request.param}", tmp_path / "image", tmp_path / "mounted"
    if os.geteuid() or shutil.which(make) is None:
        pytest.skip(f"needs root and {make}")
    image.touch()
    os.truncate(image, 1 << 30)
    place.mkdir()
    subprocess.run([make, "-q", image], check=True, capture_output=True)
    if subprocess.run(["mount", "-o", "loop", image, place], check=False).returncode:
        pytest.skip("cannot mount a file here")
    yield place
    subprocess.run(["umount", place], check=True)


def used(folder: Path) -> int:
    """Bytes that a file system has given away."""
    os.sync()
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


@pytest.mark.parametrize("layout", ["c p1 p2", "p1 p2 c"])
def test_a_swap_shares_what_it_does_not_change(mounted: Path, layout: str) -> None:
    shapes = [("a", "F32", (SIZE // 8,)), ("p.weight", "F32", (64, 3, 8, 8)), ("z", "U8", (SIZE,))]
    header = pack(shapes, {"format": "pt"})
    path, out = mounted / "model.safetensors", mounted / "out.safetensors"
    path.write_bytes(lay_out(header) + os.urandom(header.data_bytes))
    before = used(mounted)
    cs.swap(path, out, geometry=["p=s8"], verify="bits", layout=layout)
    assert used(mounted) - before < SIZE // 8
    assert cs.verify(path, out, function=False).equivalent
    before = used(mounted)
    cs.restore(out, mounted / "again.safetensors")
    assert used(mounted) - before < SIZE // 8
    assert (mounted / "again.safetensors").read_bytes() == path.read_bytes()
    # The same without sharing takes the room of the file: what is measured can be seen.
    before = used(mounted)
    (mounted / "copy").write_bytes(path.read_bytes())
    assert used(mounted) - before > SIZE
