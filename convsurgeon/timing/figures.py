"""What was measured of one form of a layer: frozen values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

CONV, CHANNELS_LAST, GEMM, LINEAR, PRODUCT = "conv", "channels-last", "gemm", "linear", "product"
"""The forms: the original, the same on channels-last memory, the two drop-ins, and the limit."""

MAP, TOKENS = "map", "tokens"
"""How an output is consumed: as the convolution gives it, or as `[B, prod(grid), O]`."""

FORWARD, TRAINING = "forward", "forward+backward"


@dataclass(frozen=True, slots=True)
class Spread:
    """Wall times of one call.

    Attributes:
        median: in seconds.
        lower: first quartile.
        upper: third quartile.
        rounds: how many samples.
        calls: in each sample, whose mean it is.
    """

    median: float
    lower: float
    upper: float
    rounds: int
    calls: int

    @classmethod
    def of(cls, samples: Sequence[float], calls: int) -> Self:
        """Summarise samples in seconds; the quartiles of one sample are itself."""
        from statistics import median, quantiles  # some 8 ms that only this needs

        several = samples if len(samples) > 1 else [*samples, *samples]
        lower, _, upper = quantiles(several, n=4, method="inclusive")
        return cls(median(samples), lower, upper, len(samples), calls)

    @property
    def width(self) -> float:
        """Between the quartiles, in seconds."""
        return self.upper - self.lower


@dataclass(frozen=True, slots=True)
class Timing:
    """One form, with one way to consume its output, in one kind of pass.

    Attributes:
        form: one of the five.
        output: `map` or `tokens`.
        passes: `forward` or `forward+backward`.
        seconds: None where it cannot be run here.
        peak_bytes: most bytes that one call held beyond its input and weights, output included;
            None where that is not known.
        note: why something is None; empty otherwise.
    """

    form: str
    output: str
    passes: str
    seconds: Spread | None
    peak_bytes: int | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands under `timings`."""
        time = self.seconds
        return {
            "form": self.form,
            "output": self.output,
            "passes": self.passes,
            "median": time and time.median,
            "quartiles": time and [time.lower, time.upper],
            "rounds": time.rounds if time else 0,
            "calls": time.calls if time else 0,
            "peak_bytes": self.peak_bytes,
            "note": self.note,
        }
