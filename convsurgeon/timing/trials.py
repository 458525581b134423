"""What is called and timed: a form, one way to consume its output, one kind of pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from convsurgeon.timing.check import check
from convsurgeon.timing.device import said
from convsurgeon.timing.figures import FORWARD, TRAINING, Timing
from convsurgeon.timing.forms import Form, Run, normal

if TYPE_CHECKING:
    from torch import Tensor

Call = Callable[[], object]


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """A call that can be timed.

    Attributes:
        form: its name.
        output: `map` or `tokens`.
        passes: `forward` or `forward+backward`.
        call: does it once, and returns what it made.
    """

    form: str
    output: str
    passes: str
    call: Call = field(repr=False)

    def recording(self) -> AbstractContextManager[object]:
        """Return the context to call it in: a forward alone records nothing for gradients."""
        import torch

        return torch.enable_grad() if self.passes == TRAINING else torch.no_grad()

    def once(self) -> None:
        """Call it and drop what it made."""
        with self.recording():
            self.call()


def trials(
    form: Form, expected: Tensor, passes: Sequence[str], compiled: Callable[[Run], Run]
) -> Iterator[Trial | Timing]:
    """Yield every trial of a form, checked and called once; a row that says why where it fails.

    Args:
        form: with the values of the check.
        expected: the output of the original, see `check`.
        passes: that are wanted.
        compiled: what becomes of a function before it is called.

    Raises:
        NotEquivalentError: CS086 where the form computes something else.
    """
    for output, consume in form.outputs.items():
        run = compiled(_consumed(form, consume))
        why = _trouble(partial(_verify, form, output, run, expected))
        for name in passes:
            trial = Trial(form.name, output, name, _CALLS[name](form, run))
            reason = why or _trouble(trial.once)
            yield missing(trial.form, output, name, reason) if reason else trial


def missing(form: str, output: str, passes: str, reason: str) -> Timing:
    """Return the row of what cannot be timed."""
    return Timing(form, output, passes, None, note=reason)


def _consumed(form: Form, consume: Run) -> Run:
    def run(x: Tensor) -> Tensor:
        return consume(form.module(x))

    return run


def _verify(form: Form, output: str, run: Run, expected: Tensor) -> None:
    import torch

    with torch.no_grad():
        check(form.name, output, run(form.x), expected)


def _trouble(call: Call) -> str:
    """Return what a kernel, a compiler or the memory cannot do; empty where all is well.

    torch's own refusals are RuntimeErrors, a missing kernel and a lack of memory among them.
    """
    try:
        call()
    except (RuntimeError, MemoryError) as error:
        return f"cannot be run here: {said(error)}"
    return ""


class _Training:
    """A forward and a backward to the weights, as of a first layer: its input needs no gradient."""

    def __init__(self, form: Form, run: Run) -> None:
        self._run, self._x = run, form.x
        self._weights = list(form.module.parameters())
        self._gradient: Tensor | None = None

    def __call__(self) -> object:
        import torch

        y = self._run(self._x)
        if self._gradient is None:
            self._gradient = normal(torch.empty_like(y))
        return torch.autograd.grad(y, self._weights, self._gradient)


def _forward(form: Form, run: Run) -> Call:
    return partial(run, form.x)


_CALLS: Mapping[str, Callable[[Form, Run], Call]] = {FORWARD: _forward, TRAINING: _Training}
