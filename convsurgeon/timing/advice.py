"""From figures to a recommendation: a pure function, and "keep the conv" is an answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from convsurgeon.timing.figures import (
    CHANNELS_LAST,
    CONV,
    GEMM,
    LINEAR,
    PRODUCT,
    Spread,
    Timing,
)

FEWEST = 5
"""Rounds below which quartiles say nothing about how far samples spread."""

_PREFERRED = (LINEAR, GEMM, CHANNELS_LAST)
"""Of forms that are equally fast: what `cs.load` makes by default, the other drop-in, and last
what asks for another memory order of the whole model."""


@dataclass(frozen=True, slots=True)
class Advice:
    """What to use where the output is consumed in one way, in one kind of pass.

    Attributes:
        output: `map` or `tokens`.
        passes: `forward` or `forward+backward`.
        form: the form to use, `conv` for the original; None where the figures do not tell.
        rival: the form that was compared with the conv: the one to use, or the fastest other one.
        gain: by how much the rival's median is below the conv's, in seconds; may be negative.
        spread: what the gain has to exceed: the larger of both distances between quartiles.
        ratio: the conv's median by the rival's.
        note: why `form` is None; empty otherwise.
    """

    output: str
    passes: str
    form: str | None
    rival: str | None = None
    gain: float | None = None
    spread: float | None = None
    ratio: float | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands under `advice`."""
        names = ("output", "passes", "form", "rival", "gain", "spread", "ratio", "note")
        return {name: getattr(self, name) for name in names}


def advise(timings: Iterable[Timing]) -> tuple[Advice, ...]:
    """Recommend a form for each way to consume the output in each kind of pass."""
    groups: dict[tuple[str, str], list[Timing]] = {}
    for timing in timings:
        if timing.form != PRODUCT:
            groups.setdefault((timing.output, timing.passes), []).append(timing)
    return tuple(_about(*key, group) for key, group in groups.items())


def _about(output: str, passes: str, timings: Sequence[Timing]) -> Advice:
    found = {timing.form: timing.seconds for timing in timings if timing.seconds}
    conv = found.pop(CONV, None)
    if conv is None:
        return Advice(output, passes, None, note="the conv was not timed, nothing to compare with")
    if not found:
        return Advice(output, passes, None, note="no other form was timed")
    if min(time.rounds for time in (conv, *found.values())) < FEWEST:
        return Advice(output, passes, None, note=f"fewer than {FEWEST} rounds do not tell")
    faster = {form: time for form, time in found.items() if _clearly_below(time, conv)}
    rival = _choice(faster) if faster else min(found, key=lambda form: found[form].median)
    time = found[rival]
    return Advice(
        output,
        passes,
        form=rival if faster else CONV,
        rival=rival,
        gain=conv.median - time.median,
        spread=_spread(conv, time),
        ratio=conv.median / time.median,
    )


def _choice(faster: dict[str, Spread]) -> str:
    """Return the preferred one of those that are not clearly slower than the fastest."""
    best = min(faster.values(), key=lambda time: time.median)
    equal = [form for form, time in faster.items() if not _clearly_below(best, time)]
    return min(equal, key=_PREFERRED.index)


def _clearly_below(one: Spread, other: Spread) -> bool:
    return other.median - one.median > _spread(one, other)


def _spread(one: Spread, other: Spread) -> float:
    return max(one.width, other.width)
