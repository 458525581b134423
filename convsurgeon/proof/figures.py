"""The three equalities of one layer, as frozen values with their figures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any


@dataclass(frozen=True, slots=True)
class Bits:
    """The equality of bits of one weight.

    Attributes:
        equal: whether every element is the one that the layout says, bit for bit.
        elements: how many were compared.
        differing: how many are not equal.
        note: what is wrong, where it is; empty otherwise.
        sha256: of the original weight's bytes, in hexadecimal; empty where they were not read.
    """

    equal: bool
    elements: int
    differing: int = 0
    note: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Input:
    """One input that both forms were run on.

    Attributes:
        shape: `[B, C, *spatial]`, or `[C, *spatial]` for the unbatched one.
        values: `random`, or `index`: every element is another number, in order.
        memory: `contiguous`, `channels last` or `strided` (every other element of a larger one).
    """

    shape: tuple[int, ...]
    values: str = "random"
    memory: str = "contiguous"


@dataclass(frozen=True, slots=True)
class Probes:
    """The inputs that are one at one place and zero elsewhere: each output is one weight.

    Attributes:
        equal: whether all outputs of both forms are equal, exactly.
        tried: at how many places.
        places: how many there are.
        differing: how many outputs are not equal.
    """

    equal: bool
    tried: int
    places: int
    differing: int = 0

    @property
    def sampled(self) -> bool:
        """Whether a place was left out."""
        return self.tried < self.places


@dataclass(frozen=True, slots=True)
class Function:
    """The equality of the function of two layers, in float64.

    Attributes:
        within: whether every output on `inputs` lies within its bound.
        difference: at the output that comes closest to its bound.
        bound: at the same output; see `proof.bounds`.
        outputs: how many were compared.
        inputs: what both forms were run on.
        seed: of the random ones.
        probes: the one-hot inputs, whose outputs must be equal exactly.
    """

    within: bool
    difference: float
    bound: float
    outputs: int
    inputs: tuple[Input, ...]
    seed: int
    probes: Probes

    @property
    def equal(self) -> bool:
        """Whether nothing that was run says no."""
        return self.within and self.probes.equal


@dataclass(frozen=True, slots=True)
class Error:
    """How far computed outputs lie from others.

    Attributes:
        absolute: the largest difference.
        relative: the same, relative to the largest output.
        ulps: the largest difference in units in the last place of the output it is found at; large
            where an output nearly cancels, for any way to compute it.
        mean_ulps: the mean of them over all outputs.
        rms: root of the mean square of the differences, relative to that of the outputs.
    """

    absolute: float
    relative: float
    ulps: float
    mean_ulps: float
    rms: float


@dataclass(frozen=True, slots=True)
class Floats:
    """How far each form is from float64 in the stored dtype. Reported, never judged.

    Attributes:
        dtype: the stored one.
        before: error of the original form.
        after: error of the new form.
        between: how far the two forms are from each other.
        outputs: how many were compared.
    """

    dtype: str
    before: Error
    after: Error
    between: Error
    outputs: int

    @property
    def ratio(self) -> float:
        """Root mean square error of the new form over that of the original; 1 where both are 0."""
        if self.before.rms == self.after.rms:
            return 1.0
        return self.after.rms / self.before.rms if self.before.rms else float("inf")


def refutation(found: Function) -> str:
    """Say in one clause what the proof of the function found to differ."""
    probes = found.probes
    if not probes.equal:
        return f"{probes.differing} outputs on {probes.tried} one-hot inputs differ"
    return f"outputs differ by {found.difference:.2g}, the bound is {found.bound:.2g}"


def function_json(found: Function) -> dict[str, Any]:
    """Return the object that stands under `function`."""
    probes = {**asdict(found.probes), "sampled": found.probes.sampled}
    return {"equal": found.equal, **finite(asdict(found)), "probes": probes}


def floats_json(found: Floats) -> dict[str, Any]:
    """Return the object that stands under `floats`."""
    values: dict[str, Any] = finite({**asdict(found), "ratio": found.ratio})
    return values


def finite(value: Any) -> Any:
    """Return the value with null for each number that JSON has not: infinities and NaN."""
    if isinstance(value, dict):
        return {key: finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not isfinite(value) else value
