"""Leave one family out: what a catalogue says about a family that it has never seen."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from zoo_files import Row

from convsurgeon.rules import Layer, Rewrite, decide
from convsurgeon.sources.catalogue.fingerprint import FingerprintSpeaker
from convsurgeon.sources.catalogue.record import Record
from tools.catalogue.compile import taught_by
from tools.catalogue.merge import Taught, merge
from tools.catalogue.observe import tensors_of


class Without:
    """The catalogue of some rows, without one family."""

    def __init__(self, taught: Mapping[str, list[Taught]], family: str) -> None:
        self._taught, self._family = taught, family
        self._outcomes: dict[str, int] = {}
        self._records: dict[str, Record | None] = {}

    def record(self, digest: str) -> Record | None:
        """See `Catalogue`."""
        if digest not in self._records:
            others = [t for t in self._taught.get(digest, ()) if t.family != self._family]
            self._records[digest] = Record.of(merge(others, self._number)) if others else None
        return self._records[digest]

    def outcome(self, number: int) -> Mapping[str, Any]:
        """See `Catalogue`."""
        found: Mapping[str, Any] = json.loads(list(self._outcomes)[number])
        return found

    def architecture(self, number: int) -> str:
        """See `Catalogue`."""
        return f"architecture {number}"

    def _number(self, outcome: str) -> int:
        return self._outcomes.setdefault(outcome, len(self._outcomes))


def unseen(rows: Sequence[Row]) -> Iterator[tuple[str, str, str, str, str, bool, bool]]:
    """Return each layer with what was said about it; see `accuracy.Judged`."""
    taught = taught_by(rows)
    catalogues: dict[str, Without] = {}
    for row in rows:
        family = f"{row['source']}:{row['family']}"
        catalogue = catalogues.setdefault(family, Without(taught, family))
        tensors = tuple(tensors_of(row))
        speaker = FingerprintSpeaker(tensors.__iter__, catalogue)
        truth = {conv["key"]: conv for conv in row["convs"]}
        for tensor in tensors:
            if len(tensor.shape) not in (3, 4, 5) or tensor.key.rpartition(".")[2] != "weight":
                continue
            said = speaker.about(tensor.key, tensor.shape)
            called = "undecided"
            if said and said.geometry:
                layer = Layer(said.form, tensor.shape, said.geometry, "c p1 p2")
                called = "eligible" if isinstance(decide("linear", layer), Rewrite) else "refused"
            eligible = bool(tensor.key in truth and truth[tensor.key]["eligible"])
            patchify = max(tensor.shape[2:]) > 1
            level = "fingerprint" if said else "none"
            yield row["source"], row["name"], tensor.key, level, called, eligible, patchify
