"""Prove, or refute, that two files hold equivalent layers.

It knows the rewrite from the recipe only and shares no code with it: a mistake in a rearrangement
cannot hide itself.
"""

from convsurgeon.proof.circumstances import Digest, Environment, FileDigest, ReceiptCheck
from convsurgeon.proof.compare import Assumed, compare
from convsurgeon.proof.drift import Drift, ModelInput, ModelVerdict
from convsurgeon.proof.figures import Bits, Error, Floats, Function, Input, Probes
from convsurgeon.proof.recorded import check_recorded
from convsurgeon.proof.verdict import FileVerdict, LayerVerdict, Verdict

__all__ = [
    "Assumed",
    "Bits",
    "Digest",
    "Drift",
    "Environment",
    "Error",
    "FileDigest",
    "FileVerdict",
    "Floats",
    "Function",
    "Input",
    "LayerVerdict",
    "ModelInput",
    "ModelVerdict",
    "Probes",
    "ReceiptCheck",
    "Verdict",
    "check_recorded",
    "compare",
]
