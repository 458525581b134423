"""The records of the packaged catalogue, by digest and by number."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Protocol

from convsurgeon.sources.catalogue.record import Record
from convsurgeon.sources.catalogue.table import entry


class Catalogue(Protocol):
    """What is known about bodies, and what its numbers stand for."""

    def __hash__(self) -> int:
        """Answers are remembered by catalogue."""

    def record(self, digest: str) -> Record | None:
        """Return what is known about a body; None where it is unknown."""

    def outcome(self, number: int) -> Mapping[str, Any]:
        """Return what an outcome's number stands for."""

    def architecture(self, number: int) -> str:
        """Return the name of an architecture, e.g. `timm resnet50`."""


class _Packaged:
    """The catalogue that comes with the package."""

    def record(self, digest: str) -> Record | None:
        """See `Catalogue`."""
        return _record(digest)

    def outcome(self, number: int) -> Mapping[str, Any]:
        """See `Catalogue`."""
        found: Mapping[str, Any] = entry("outcomes")[number]
        return found

    def architecture(self, number: int) -> str:
        """See `Catalogue`."""
        return str(entry("architectures")[number])


PACKAGED: Catalogue = _Packaged()


@cache
def _record(digest: str) -> Record | None:
    data = entry(f"body:{digest}")
    return None if data is None else Record.of(data)
