"""Time every form of a layer in turns: what disturbs the machine hits all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import ceil
from time import perf_counter
from typing import TYPE_CHECKING

from convsurgeon.errors import UsageError
from convsurgeon.timing.advice import FEWEST
from convsurgeon.timing.check import exact_values
from convsurgeon.timing.compiling import compiling
from convsurgeon.timing.device import KINDS
from convsurgeon.timing.figures import FORWARD, MAP, TOKENS, TRAINING, Spread, Timing
from convsurgeon.timing.forms import FORMS, Form, Missing, Run, make_conv, normal
from convsurgeon.timing.subjects import Subject
from convsurgeon.timing.trials import Trial, missing, trials
from convsurgeon.timing.value import Setup

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_SAMPLE = 2e-3
"""Seconds that a sample should last: in a short one the clock and the loop weigh too much."""
_MOST_CALLS = 1000
_TRIED = 3

Rows = list[Trial | Timing]


def time_subject(subject: Subject, setup: Setup) -> tuple[Timing, ...]:
    """Check all forms of a layer against the original, then time them in turns.

    Args:
        subject: the layer; its weights are random, since no time depends on them.
        setup: how to measure.

    Returns:
        A row for each form, output and kind of pass, in the order of the report.

    Raises:
        UsageError: CS090 where the input does not fit into the device's memory.
        NotEquivalentError: CS086 where a form computes something else than the original.
    """
    import torch

    device, dtype = torch.device(setup.device), getattr(torch, subject.dtype_in(setup.dtype))
    conv = make_conv(subject, device, dtype)
    x = _input((setup.batch, subject.weight_shape[1], *subject.spatial), device, dtype)
    expected = exact_values(subject, conv, x)
    passes = (FORWARD, TRAINING) if setup.backward else (FORWARD,)
    with compiling(setup.compiled) as compiled:
        forms, rows = _prepared(conv, x, expected, passes, compiled)
        _refill(forms)
        ready = [row for row in rows if isinstance(row, Trial)]
        timed = iter(_in_turns(device, ready, setup))
        return tuple(row if isinstance(row, Timing) else next(timed) for row in rows)


def _input(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    import torch

    try:
        return torch.zeros(shape, device=device, dtype=dtype)
    except (RuntimeError, MemoryError):
        text = f"an input {list(shape)} does not fit into the memory of {device}"
        hint = "give a smaller --batch or --input-size"
        raise UsageError("CS090", text, where="--batch", hint=hint) from None


def _prepared(
    conv: nn.Module,
    x: Tensor,
    expected: Tensor,
    passes: Sequence[str],
    compiled: Callable[[Run], Run],
) -> tuple[list[Form], Rows]:
    """Build and check every form; return them, and their trials in the order of the report."""
    forms: list[Form] = []
    rows: Rows = []
    for name, make in FORMS.items():
        try:
            form = make(conv, x)
        except Missing as why:
            rows += [missing(name, o, p, str(why)) for o in (MAP, TOKENS) for p in passes]
            continue
        forms.append(form)
        rows += trials(form, expected, passes, compiled)
    return forms, rows


def _refill(forms: Sequence[Form]) -> None:
    """Give weights and inputs values to time with, in place: what was checked is what runs."""
    tensors = (tensor for form in forms for tensor in (*form.module.parameters(), form.x))
    for tensor in {tensor.data_ptr(): tensor for tensor in tensors}.values():
        normal(tensor)


def _in_turns(device: torch.device, ready: Sequence[Trial], setup: Setup) -> Iterator[Timing]:
    kind = KINDS[device.type]

    def wait() -> None:
        kind.wait(device)

    calls = [_calls(trial, wait) for trial in ready]
    samples: list[list[float]] = [[] for _ in ready]
    end = perf_counter() + setup.seconds
    for done in range(setup.rounds):
        if done >= FEWEST and perf_counter() > end:
            break
        for place in range(len(ready)):
            # Each round begins with another one: no form keeps step with what is periodic.
            at = (place + done) % len(ready)
            samples[at].append(_sample(ready[at], calls[at], wait))
    for trial, number, found in zip(ready, calls, samples, strict=True):
        with trial.recording():
            peak, note = kind.peak(device, trial.call)
        seconds = Spread.of(found, number)
        yield Timing(trial.form, trial.output, trial.passes, seconds, peak, note)


def _calls(trial: Trial, wait: Callable[[], None]) -> int:
    """Warm up; return how many calls make a sample."""
    once = min(_sample(trial, 1, wait) for _ in range(_TRIED))
    return max(1, min(_MOST_CALLS, ceil(_SAMPLE / once)))


def _sample(trial: Trial, number: int, wait: Callable[[], None]) -> float:
    """Return the seconds of one call, the mean of several in a row."""
    with trial.recording():
        wait()
        start = perf_counter()
        for _ in range(number):
            trial.call()
        wait()
        return (perf_counter() - start) / number
