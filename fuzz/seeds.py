"""What fuzzing begins with: the crafted inputs of the tests, and the saved corpus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.crafted_headers import MALFORMED
from tests.test_header_reference import VALID

CORPUS = Path(__file__).parent / "corpus"
_LONGEST = 2000


def seeds(target: str) -> Iterator[bytes]:
    """Yield inputs for a target, valid ones first; the saved corpus last."""
    crafted = [text for text, _, _ in VALID.values()] + list(MALFORMED.values())
    for text in crafted:
        raw = text if isinstance(text, bytes) else text.encode()
        if len(raw) <= _LONGEST:
            yield raw
    for path in sorted((CORPUS / target).glob("*")):
        yield path.read_bytes()
