"""A receipt against the same verification done again: which fields must agree, and which may not.

Equalities, counts, shapes and digests are the same on every machine. Rounding errors are not: they
depend on the processor, on the versions of libraries and on the number of threads. Paths and
versions are circumstances. Each field of the document is one of these, and a field that stands in
no row is a difference, so that nothing passes unread.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from itertools import accumulate
from math import inf
from typing import Any


class Kind(Enum):
    """What a field of the document of `verify` is.

    Attributes:
        FACT: it is the same wherever the verification is done again.
        MEASURE: a figure of rounding, or what is derived from one and decides nothing.
        CIRCUMSTANCE: where files were, and what it ran on.
        APART: about another document.
    """

    FACT = auto()
    MEASURE = auto()
    CIRCUMSTANCE = auto()
    APART = auto()


_F, _M, _C = Kind.FACT, Kind.MEASURE, Kind.CIRCUMSTANCE
_LAYER = "files[].layers[]."
_DRIFT = "difference yardstick scale ratio"
_ERROR = "absolute relative ulps mean_ulps rms"
_ROWS: tuple[tuple[Kind, str, str], ...] = (
    (_F, "", "schema equivalent scope sampled"),
    (_F, "asked.", "function exhaustive input loader dtype evidence require_evidence key"),
    (_F, "asked.", "geometry input_shape method layers"),
    # A file that was moved or renamed is known again by its digest.
    (_C, "asked.", "original swapped model input_file"),
    (_C, "files[].", "original swapped"),
    (_F, "files[].", "equivalent scope other_tensors differences"),
    (_F, "files[].renamed[].", "before after"),
    (_C, "files[].digests[].", "name"),
    (_F, "files[].digests[].", "bytes sha256"),
    (_C, "files[].digests[].sidecar.", "name"),
    (_F, "files[].digests[].sidecar.", "bytes sha256"),
    (_F, _LAYER, "module key equivalent"),
    (_F, _LAYER + "from.", "form weight_shape"),
    (_F, _LAYER + "to.", "form weight_shape"),
    (_F, _LAYER + "given.", "layout"),
    (_F, _LAYER + "given.geometry.", "kernel stride padding dilation groups"),
    (_F, _LAYER + "given.evidence.", "level source"),
    (_F, _LAYER + "bits.", "equal elements differing note sha256"),
    (_F, _LAYER + "function.", "equal within outputs seed"),
    (_M, _LAYER + "function.", "difference bound"),
    (_F, _LAYER + "function.inputs[].", "shape values memory"),
    (_F, _LAYER + "function.probes.", "equal tried places differing sampled"),
    # As a whole too: not every build of torch has the kernels.
    (_M, _LAYER, "floats"),
    (_F, _LAYER + "floats.", "dtype outputs"),
    (_M, _LAYER + "floats.", "ratio"),
    (_M, _LAYER + "floats.before.", _ERROR),
    (_M, _LAYER + "floats.after.", _ERROR),
    (_M, _LAYER + "floats.between.", _ERROR),
    (_F, "models[].", "how equivalent refused dtype seed perturbations allowed"),
    # It names the library's version, or a path.
    (_C, "models[].", "source notes"),
    (_F, "models[].inputs[].", "name shape dtype"),
    (_F, "models[].outputs[].", "name shape within note"),
    (_M, "models[].outputs[].", _DRIFT),
    (_F, "models[].layers[].", "name shape"),
    (_M, "models[].layers[].", f"{_DRIFT} within note"),
    (_C, "environment.", "convsurgeon python torch system threads"),
    (_C, "", "notes"),
    (Kind.APART, "", "receipt"),
)


def _parents(path: str) -> Iterator[str]:
    """Yield `files`, `files[]`, `files[].layers`, ... for `files[].layers[].key`."""
    for parent in accumulate(path.split(".")[:-1], "{}.{}".format):
        yield parent.removesuffix("[]")
        yield parent


_LEAVES = {f"{prefix}{name}": kind for kind, prefix, names in _ROWS for name in names.split()}
_INNER = frozenset({"", *(parent for path in _LEAVES for parent in _parents(path))})
KINDS: Mapping[str, Kind] = {**dict.fromkeys(_INNER, _F), **_LEAVES}
"""Every field, `[]` standing for each element of an array. An object that may be null has a kind of
its own."""
_LATER = frozenset({"files[].digests[].sidecar"})
"""Fields about which older receipts say nothing."""
_MISSING = object()
_NUMBERS = {int, float, type(None)}
"""Types of a figure; null stands for one that is not finite. `True` is none of them."""
_LONG = 90
"""Characters of a value that are shown: a digest, and some more."""
_MANY = 50
"""Differences that are listed."""


class _Outcome(Enum):
    SAME = auto()
    VARIES = auto()
    DIFFERS = auto()


@dataclass(frozen=True, slots=True)
class _Pair:
    """One field in both documents: its name in `KINDS`, and its place in these two."""

    name: str
    place: str
    old: Any
    new: Any

    @property
    def kind(self) -> Kind | None:
        """What it is; None where no row has it."""
        return KINDS.get(self.name)

    @property
    def outcome(self) -> _Outcome:
        """How the two agree."""
        if self.kind is Kind.APART:
            return _Outcome.SAME
        if self.old is _MISSING and self.name in _LATER:
            return _Outcome.SAME if self.new is None else _Outcome.VARIES
        if self.kind is None or self.old is _MISSING or self.new is _MISSING:
            return _Outcome.DIFFERS
        if _same(self.old, self.new):
            return _Outcome.SAME
        varies = self.kind is not _F and _may_vary(self.kind, {type(self.old), type(self.new)})
        return _Outcome.VARIES if varies else _Outcome.DIFFERS

    @property
    def distance(self) -> float:
        """How far two figures are from each other, relative to the larger."""
        try:
            return float(abs(self.old - self.new) / max(abs(self.old), abs(self.new)))
        except (TypeError, ArithmeticError):  # null, a text, or a whole number without end
            return inf

    def __str__(self) -> str:
        if self.kind is None and self.old is not _MISSING:
            return f"{self.place}: the receipt has a field that this version does not know"
        return f"{self.place}: {_shown(self.old)} in the receipt, {_shown(self.new)} now"


def compare_documents(
    old: Mapping[str, Any], new: Mapping[str, Any]
) -> tuple[int, tuple[str, ...], tuple[str, ...]]:
    """Hold two documents of `verify` against each other.

    Args:
        old: the receipt, as JSON gives it; nothing about it is taken for granted.
        new: of the same verification done again, as JSON gives it.

    Returns:
        How many facts are the same; those that are not, one line each, of which the first 50; and
        what else is not the same, one line per field.
    """
    agreed = 0
    wrong: list[_Pair] = []
    varying: list[_Pair] = []
    for pair in _pairs(_Pair("", "", old, new)):
        outcome = pair.outcome
        if outcome is _Outcome.SAME:
            agreed += pair.kind is _F and pair.old is not _MISSING
        else:
            (wrong if outcome is _Outcome.DIFFERS else varying).append(pair)
    lines = [*map(str, wrong[:_MANY]), *_more(len(wrong) - _MANY)]
    alike = old.get("environment") == new.get("environment")
    return agreed, tuple(lines), tuple(_remarks(varying, alike=alike))


def _pairs(pair: _Pair) -> Iterator[_Pair]:
    """Yield every field below one; an object or array that only one of the two has is one field."""
    if pair.name not in _INNER or not _both_go_on(pair.old, pair.new):
        yield pair
        return
    if isinstance(pair.old, list):
        for number, sides in enumerate(zip(pair.old, pair.new, strict=True)):
            yield from _pairs(_Pair(f"{pair.name}[]", f"{pair.place}[{number}]", *sides))
        return
    dot = "." if pair.name else ""
    for key in {**pair.new, **pair.old}:
        both = pair.old.get(key, _MISSING), pair.new.get(key, _MISSING)
        place = f"{pair.place}{dot}{key[:_LONG]}"
        yield from _pairs(_Pair(f"{pair.name}{dot}{key}", place, *both))


def _both_go_on(old: Any, new: Any) -> bool:
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new)
    return isinstance(old, dict) and isinstance(new, dict)


def _same(old: Any, new: Any) -> bool:
    """Tell whether two values are equal; to Python, `True` and 1 are too."""
    if type(old) is not type(new):
        return False
    if isinstance(old, list):
        return len(old) == len(new) and all(map(_same, old, new))
    return bool(old == new)


def _may_vary(kind: Kind, types: set[type]) -> bool:
    if kind is _M and (types <= _NUMBERS or types == {dict, type(None)}):
        return True
    return len(types) == 1


def _remarks(varying: list[_Pair], *, alike: bool) -> Iterator[str]:
    """Yield a line per field, about the place where it is furthest off."""
    if alike and any(pair.kind is _M for pair in varying):
        yield "figures differ although versions, system and threads are the same"
    by_name: dict[str, list[_Pair]] = {}
    for pair in varying:
        by_name.setdefault(pair.name, []).append(pair)
    for pairs in by_name.values():
        furthest = max(pairs, key=lambda pair: pair.distance)
        yield "; ".join([str(furthest), *_more(len(pairs) - 1)])


def _more(count: int) -> list[str]:
    return [f"and {count} more"] if count > 0 else []


def _shown(value: Any) -> str:
    if value is _MISSING:
        return "nothing"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        deep = any(isinstance(one, dict | list) for one in value)
        return f"a list of {len(value)}" if deep else _short(json.dumps(value, ensure_ascii=False))
    return _short(json.dumps(value, ensure_ascii=False))


def _short(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"
