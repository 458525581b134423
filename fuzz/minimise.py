"""The smallest inputs that go every way: `python -m fuzz.minimise TARGET FOLDER...`.

Takes what a run learnt (`build/fuzz/TARGET`) and the inputs that runs begin with, and leaves in
`fuzz/corpus/TARGET` the shortest ones that together pass each pair of lines of the package which
any of them passes one after the other.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import convsurgeon
from fuzz.seeds import CORPUS, seeds
from fuzz.targets import TARGETS, Target

_PACKAGE = str(Path(convsurgeon.__file__).parent)
Way = tuple[str, int, int]


def ways(target: Target, text: bytes) -> set[Way]:
    """Return the pairs of lines that the package passes on an input, with their file."""
    found: set[Way] = set()
    last: dict[FrameType, int] = {}

    def line(frame: FrameType, event: str, _: Any) -> Any:
        before = last.get(frame, 0)
        last[frame] = frame.f_lineno
        found.add((frame.f_code.co_filename, before, frame.f_lineno))
        if event == "return":
            del last[frame]
        return line

    def call(frame: FrameType, event: str, argument: Any) -> Any:
        inside = frame.f_code.co_filename.startswith(_PACKAGE)
        return line(frame, event, argument) if inside else None

    sys.settrace(call)
    try:
        target(text)
    finally:
        sys.settrace(None)
    return found


def smallest(target: Target, texts: Iterable[bytes]) -> list[bytes]:
    """Return the inputs that are kept, shortest first."""
    kept, passed = [], set[Way]()
    for text in sorted(set(texts), key=lambda text: (len(text), text)):
        if new := ways(target, text) - passed:
            passed |= new
            kept.append(text)
    return kept


def main(name: str, folders: list[Path]) -> None:
    """Replace the saved corpus of a target."""
    learnt = (path.read_bytes() for folder in folders for path in folder.iterdir())
    kept = smallest(TARGETS[name], (*learnt, *seeds(name)))
    shutil.rmtree(CORPUS / name, ignore_errors=True)
    (CORPUS / name).mkdir(parents=True)
    for text in kept:
        (CORPUS / name / hashlib.sha256(text).hexdigest()[:16]).write_bytes(text)
    print(f"{name}: {len(kept)} inputs, {sum(map(len, kept))} bytes")


if __name__ == "__main__":
    main(sys.argv[1], [Path(folder) for folder in sys.argv[2:]])
