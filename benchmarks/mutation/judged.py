"""What the proofs say about one damaged file, each proof asked alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import convsurgeon as cs
from convsurgeon.errors import RefusedError
from convsurgeon.plan import recipe_of
from convsurgeon.proof import check_recorded
from convsurgeon.proof.forms import Stored
from convsurgeon.proof.function import run_both
from convsurgeon.proof.pairing import pairs
from convsurgeon.store import Source, read_safetensors
from mutation.cases import Case
from mutation.mutants import Mutant
from mutation.oracle import Finding, Truth


@dataclass(frozen=True)
class Judged:
    """One damaged file: what is true, and what each proof says.

    Attributes:
        of: its case.
        mutant: which one.
        found: what is true about it.
        refused: code of the refusal to compare it at all; empty where there was none.
        bits: whether the bits say that it is equivalent; None where it was refused.
        function: whether the function alone says so; None where it was not asked.
        digests: whether the digests in its own record say so; None where they were not asked.
        reasons: how many complaints there are.
    """

    of: Case
    mutant: Mutant
    found: Finding
    refused: str = ""
    bits: bool | None = None
    function: bool | None = None
    digests: bool | None = None
    reasons: int = 0

    @property
    def survived(self) -> bool:
        """Whether a proof says what is not true, or says no without a reason."""
        caught = self.bits is False and self.reasons > 0
        right = True  # what the record claims is not judged
        match self.found.truth:
            case Truth.SAME:
                right = bool(self.bits) and False not in {self.function, self.digests}
            case Truth.SAME_FUNCTION:
                right = caught and self.function is not False and not self._digests_wrong
            case Truth.OTHER_FUNCTION:
                right = caught and self.function is not True and not self._digests_wrong
            case Truth.OTHER_FILE:
                right = bool(self.refused) or caught
            case Truth.OTHER_RECORD:
                # The bits follow the record, wherever it leads; the function looks at the ends.
                right = bool(self.refused) or caught or self.function is False
            case Truth.NO_FILE:
                right = bool(self.refused)
        return not right

    @property
    def _digests_wrong(self) -> bool:
        """Whether the digests, which speak of rewritten weights only, say what is not true."""
        return self.digests is not None and self.digests is self.found.weights

    def __str__(self) -> str:
        """Return one line: what it is, what was said."""
        said = f"bits {self.bits}, function {self.function}, digests {self.digests}"
        return f"{self.mutant}: {self.found.truth.value}; {self.refused or said}"


def ask(about: Judged, before: Path, path: Path, choices: dict[str, Any] | None = None) -> Judged:
    """Ask for the bits of a file or folder.

    Args:
        about: what is true.
        before: the original.
        path: the damaged one.
        choices: evidence, where it has no record.
    """
    try:
        verdict = cs.verify(before, path, function=False, **(choices or {}))
    except RefusedError as error:
        return replace(about, refused=error.code)
    reasons = sum(len(file.complaints) for file in verdict.files)
    return replace(about, bits=verdict.equivalent, reasons=reasons)


def ask_alone(about: Judged, before: Path, path: Path) -> Judged:
    """Ask the function and the digests of a file, each without the bits."""
    if about.refused or not (about.found.truth in _ABOUT_LAYERS or _followed(about)):
        return about
    one, other = read_safetensors(before), read_safetensors(path)
    digests = None if _followed(about) else check_recorded(other).equivalent
    return replace(about, function=equal_functions(one, other), digests=digests)


_ABOUT_LAYERS = {Truth.SAME, Truth.SAME_FUNCTION, Truth.OTHER_FUNCTION}


def _followed(about: Judged) -> bool:
    """Tell whether the bits agree with a record that is not true."""
    return about.found.truth is Truth.OTHER_RECORD and about.bits is True


def equal_functions(before: Source, after: Source) -> bool:
    """Ask the proof of the function alone about every layer: no bits are compared."""
    recipe = recipe_of(after.header)
    steps = recipe.steps if recipe else ()
    with before.reader() as old, after.reader() as new:
        sides = (old, before.header.by_name), (new, after.header.by_name)
        for pair in pairs(steps):
            bias = f"{pair.steps[-1].module}.bias"
            both = [Stored(r, tensors[pair.key], tensors.get(bias)) for r, tensors in sides]
            ran, _ = run_both(pair, pair.steps[-1].geometry, *both, exhaustive=True)
            if not ran.equal:
                return False
    return bool(steps)
