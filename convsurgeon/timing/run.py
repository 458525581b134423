"""From plans to figures: each distinct layer once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from convsurgeon.errors import ConvsurgeonError
from convsurgeon.timing.compiling import compiler_trouble
from convsurgeon.timing.measure import time_subject
from convsurgeon.timing.subjects import DTYPES, Alike
from convsurgeon.timing.value import Setup, TimedLayer
from convsurgeon.untrusted import safe

Progress = Callable[[str, int, int], None]


def prepared(setup: Setup) -> tuple[Setup, tuple[str, ...]]:
    """Return the setup as it can be carried out here, and notes on what cannot."""
    why = compiler_trouble(setup.device) if setup.compiled else ""
    if not why:
        return setup, ()
    return replace(setup, compiled=False), (f"nothing is compiled, torch.compile fails: {why}",)


def timed(layers: Sequence[Alike], setup: Setup, progress: Progress) -> tuple[TimedLayer, ...]:
    """Time every layer.

    Args:
        layers: see `subjects`.
        setup: how to measure.
        progress: told the layer's name, how many are done, and of how many.

    Raises:
        UsageError: CS090 where an input does not fit into memory.
        NotEquivalentError: CS086 where a form computes something else than the original.
    """
    return tuple(_each(layers, setup, progress))


def _each(layers: Sequence[Alike], setup: Setup, progress: Progress) -> Iterator[TimedLayer]:
    for number, alike in enumerate(layers):
        progress(alike.modules[0], number, len(layers))
        try:
            yield _timed(alike, setup)
        except ConvsurgeonError as error:
            raise error.at(alike.modules[0]) from None


def _timed(alike: Alike, setup: Setup) -> TimedLayer:
    subject = alike.subject
    return TimedLayer(
        modules=alike.modules,
        form=subject.form,
        weight_shape=subject.weight_shape,
        bias=subject.bias,
        geometry=subject.geometry,
        evidence=alike.evidence,
        dtype=subject.dtype_in(setup.dtype),
        input_shape=(setup.batch, subject.weight_shape[1], *subject.spatial),
        size_source=subject.size_source,
        timings=time_subject(subject, setup),
    )


def dtype_notes(layers: Sequence[Alike], setup: Setup) -> tuple[str, ...]:
    """Say which layers are stored in a type that no kernel computes in."""
    if setup.dtype:
        return ()
    return tuple(
        f"{safe(one.modules[0])} is stored in {one.subject.dtype}, timed in "
        f"{one.subject.dtype_in(None)}: no kernel computes in the former"
        for one in layers
        if one.subject.dtype not in DTYPES
    )
