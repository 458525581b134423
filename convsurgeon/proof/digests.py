"""Digests of whole files, as `sha256sum` prints them: by them a receipt knows its files again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from convsurgeon.proof.circumstances import Digest


def digests_of(paths: Sequence[Path]) -> tuple[Digest, ...]:
    """Digest files, side by side: hashing leaves the interpreter to others.

    Raises:
        OSError: where one cannot be read.
    """
    with ThreadPoolExecutor(max_workers=max(len(paths), 1)) as pool:
        return tuple(pool.map(_digest, paths))


def _digest(path: Path) -> Digest:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return Digest(path.name, file.tell(), sha256)
