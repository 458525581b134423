"""Digests of whole files, as `sha256sum` prints them: by them a receipt knows its files again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from convsurgeon.proof.circumstances import Digest, FileDigest
from convsurgeon.store import SafetensorsFile, Source


def digests_of(sources: Sequence[Source]) -> tuple[FileDigest, ...]:
    """Digest files, side by side: hashing leaves the interpreter to others.

    A sidecar says what was done to its file, and so what is proved: it is digested too.

    Raises:
        OSError: where one cannot be read.
    """
    with ThreadPoolExecutor(max_workers=max(len(sources), 1)) as pool:
        return tuple(pool.map(_digest_of, sources))


def _digest_of(source: Source) -> FileDigest:
    place = source.sidecar if isinstance(source, SafetensorsFile) else None
    sidecar = None if place is None else Digest(*_digest(place))
    return FileDigest(*_digest(source.path), sidecar=sidecar)


def _digest(path: Path) -> tuple[str, int, str]:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return path.name, file.tell(), sha256
