"""Prove, or refute, that two files hold equivalent layers.

It knows the rewrite from the recipe only and shares no code with it: a mistake in a rearrangement
cannot hide itself.
"""

from convsurgeon.proof.compare import compare
from convsurgeon.proof.recorded import check_recorded
from convsurgeon.proof.verdict import (
    Bits,
    FileVerdict,
    Floats,
    Function,
    LayerVerdict,
    Verdict,
)

__all__ = [
    "Bits",
    "FileVerdict",
    "Floats",
    "Function",
    "LayerVerdict",
    "Verdict",
    "check_recorded",
    "compare",
]
