"""What the proofs of function and floats found, in words; of several layers the worst counts."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from convsurgeon.proof import Floats, Function
from convsurgeon.report.words import figure, plural

_EXACT = "F64"


def function_text(functions: Sequence[Function]) -> str:
    """Say how many one-hot inputs agree exactly, and how close the others come to their bound."""
    worst = max(functions, key=lambda f: (not f.within, f.difference / (f.bound or 1.0)))
    sign = "≤" if worst.within else ">"
    inputs = plural(len(worst.inputs), "input")
    bound = f"{figure(worst.difference)} {sign} {figure(worst.bound)} on {inputs} in float64"
    return f"{_probes(functions)}; {bound}"


def _probes(functions: Sequence[Function]) -> str:
    tried = sum(f.probes.tried for f in functions)
    places = sum(f.probes.places for f in functions)
    what = f"one-hot inputs{'' if tried == places else ' (sampled)'}"
    differing = sum(f.probes.differing for f in functions)
    if differing:
        return f"{plural(differing, 'wrong output')} on {tried} {what}"
    return f"{tried} of {places} {what} exact"


def floats_text(floats: Sequence[Floats], forms: tuple[str, str]) -> str:
    """Say how far both forms are from float64, side by side, and how the errors compare."""
    worst = max(floats, key=lambda f: f.ratio)
    before, after, dtype = worst.before, worst.after, worst.dtype
    if dtype == _EXACT:
        return f"{figure(worst.between.rms)} between the two in {dtype}, {after.mean_ulps:.2f} ulp"
    ulps = f"{before.mean_ulps:.2f} and {after.mean_ulps:.2f} ulp"
    sides = f"{forms[0]} {figure(before.rms)}, {forms[1]} {figure(after.rms)}"
    return f"{_accuracy(worst.ratio)}: {sides} from float64 in {dtype}, {ulps}"


def _accuracy(ratio: float) -> str:
    return f"{ratio:.2f}× the original's error" if isfinite(ratio) else "the original has no error"
