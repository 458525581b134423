"""How often a swap goes over the data: once to copy it, in the kernel, and once to compare it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_files import write

import convsurgeon as cs
from convsurgeon.header import pack
from convsurgeon.store import kernel

pytestmark = pytest.mark.skipif(not kernel.WAYS, reason="the kernel copies no ranges here")

OTHER = 3_000_000
LAYER = 64 * 3 * 16 * 16 * 4
HEADERS = 64_000
"""Room for a few readings of headers."""


class Passes:
    """Counts bytes by file: read into memory, written from memory, and copied by the kernel."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.read: Counter[int] = Counter()
        self.written: Counter[int] = Counter()
        self.copied = 0
        patch.setattr(os, "pread", self.counted(self.read, os.pread, len))
        patch.setattr(os, "preadv", self.counted(self.read, os.preadv, int))
        patch.setattr(os, "pwrite", self.counted(self.written, os.pwrite, int))
        real = os.copy_file_range

        def copy_file_range(*arguments: int) -> int:
            self.copied += (count := real(*arguments))
            return count

        patch.setattr(os, "copy_file_range", copy_file_range)
        patch.setattr("convsurgeon.store.copying.share", lambda *_: False)

    @staticmethod
    def counted(
        counter: Counter[int], real: Callable[..., Any], size: Callable[[Any], int]
    ) -> Callable[..., Any]:
        def call(fd: int, *arguments: Any) -> Any:
            found = real(fd, *arguments)
            counter[os.fstat(fd).st_ino] += size(found)
            return found

        return call


@pytest.mark.parametrize("layout", ["c p1 p2", "p1 p2 c"])
def test_each_byte_is_copied_once_and_read_once_in_each_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    source, target = tmp_path / "model.safetensors", tmp_path / "out.safetensors"
    shapes = [
        ("a", "F32", (OTHER // 4,)),
        ("p.weight", "F32", (64, 3, 16, 16)),
        ("z", "U8", (OTHER,)),
    ]
    header = pack(shapes, {"format": "pt"})
    write(source, header)
    passes = Passes(monkeypatch)
    cs.swap(source, target, geometry=["p=s16"], verify="bits", layout=layout)

    moved = LAYER if layout == "p1 p2 c" else 0
    assert passes.copied == header.data_bytes - moved
    assert moved <= sum(passes.written.values()) < moved + HEADERS
    # Of the source, the layer once more for its digest, and once more where it is moved.
    before, after = (passes.read[path.stat().st_ino] for path in (source, target))
    assert 0 <= before - (header.data_bytes + LAYER + moved) < HEADERS
    assert 0 <= after - header.data_bytes < HEADERS
