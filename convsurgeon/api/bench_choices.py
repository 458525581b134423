"""How `bench` is asked to measure, once as keywords and once as one checked value."""

from __future__ import annotations

from math import isfinite
from typing import Any

from convsurgeon.api.choices import Choices
from convsurgeon.errors import UsageError
from convsurgeon.timing import Setup
from convsurgeon.timing.device import device_of
from convsurgeon.timing.subjects import DTYPES


class BenchChoices(Choices, total=False):
    """Keywords of `bench`, beside those of evidence.

    Attributes:
        device: `"cpu"`, `"cuda"`, `"cuda:1"`, `"mps"`; by default cuda, else mps, else cpu.
        dtype: that layers run in: `"float64"`, `"float32"`, `"bfloat16"`, `"float16"`; by default
            that of the file.
        batch: maps per call, 1 by default.
        backward: whether forward and backward together are timed too.
        compile: whether every form goes through torch.compile first.
        input_size: spatial size of the input of every layer with so many axes, as `"224x224"`.
        rounds: how often each form is timed, 30 by default.
        seconds: after which no further round of a layer begins, 10 by default; 5 are made anyway.
    """

    device: str | None
    dtype: str | None
    batch: int
    backward: bool
    compile: bool
    input_size: str | None
    rounds: int
    seconds: float


OWN = frozenset(BenchChoices.__annotations__) - frozenset(Choices.__annotations__)
"""The keywords that are not about evidence."""


def setup_of(choices: BenchChoices) -> Setup:
    """Check the keywords.

    Raises:
        UsageError: CS090, naming the option.
        RefusedError: CS052 without torch.
    """
    if choices.get("to", "linear") != "linear":
        text = "what is timed are convolutions that have a linear form"
        raise UsageError("CS090", text, where="--to")
    dtype = choices.get("dtype")
    if dtype not in {None, *DTYPES.values()}:
        text = f"{dtype!r} is none of {', '.join(DTYPES.values())}"
        raise UsageError("CS090", text, where="--dtype")
    given: dict[str, Any] = {_FIELDS[k]: v for k, v in choices.items() if k in _FIELDS}
    for name in ("batch", "rounds", "seconds"):
        value = given.get(name, 1)
        kinds = (int, float) if name == "seconds" else int
        if not isinstance(value, kinds):
            raise UsageError("CS090", f"{value!r} is no number of them", where=f"--{name}")
        if not (isfinite(value) and value > 0):
            raise UsageError("CS090", f"{value} is not above 0", where=f"--{name}")
    return Setup(device=device_of(choices.get("device")), **given)


# Keyword -> field of Setup.
_FIELDS = {name: name for name in ("batch", "rounds", "seconds", "dtype", "backward")}
_FIELDS["compile"] = "compiled"
