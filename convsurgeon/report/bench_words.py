"""What `bench` found, in words. Pure text, for every view."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10

from convsurgeon.report import words
from convsurgeon.timing import Advice, Environment, Setup, TimedLayer, Timing
from convsurgeon.untrusted import safe

COLUMNS = ("form", "median", "quartiles", "speed", "to limit", "memory")
LIMIT = "product"
_UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))
_NAMES = {LIMIT: "bare product"}
_OUTPUTS = {
    "map": "output as the conv gives it",
    "tokens": "output as tokens, flatten(2).transpose(1, 2).contiguous()",
}

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Block:
    """All forms with one way to consume the output in one kind of pass.

    Attributes:
        title: which.
        rows: one per form that was timed, in the order of `COLUMNS`.
        chosen: the place of the form that is advised among them; None without.
        advice: one line.
        notes: why figures are missing, one line each.
    """

    title: str
    rows: tuple[Row, ...]
    chosen: int | None
    advice: str
    notes: tuple[str, ...]


def blocks(layer: TimedLayer) -> Iterator[Block]:
    """Yield the blocks of a layer in the order of their advice."""
    for advice in layer.advice:
        timings = [
            one
            for one in layer.timings
            if (one.output, one.passes) == (advice.output, advice.passes)
        ]
        timed = [one for one in timings if one.seconds]
        forms = [one.form for one in timed]
        yield Block(
            title=f"{advice.passes}, {_OUTPUTS[advice.output]}",
            rows=tuple(_row(one, _medians(layer, advice)) for one in timed),
            chosen=forms.index(advice.form) if advice.form in forms else None,
            advice=advice_text(advice),
            notes=tuple(
                dict.fromkeys(f"{one.form}: {safe(one.note)}" for one in timings if one.note)
            ),
        )


def _medians(layer: TimedLayer, advice: Advice) -> dict[str, float]:
    """Return what the forms are compared with: the limit is the same for every output."""
    return {
        one.form: one.seconds.median
        for one in layer.timings
        if one.seconds
        and one.passes == advice.passes
        and (one.output == advice.output or one.form == LIMIT)
    }


def _row(timing: Timing, medians: Mapping[str, float]) -> Row:
    time = timing.seconds
    if time is None:
        return (timing.form, *[""] * (len(COLUMNS) - 1))
    conv, limit = medians.get("conv"), medians.get(LIMIT)
    return (
        _NAMES.get(timing.form, timing.form),
        seconds(time.median),
        f"{seconds(time.lower)} to {seconds(time.upper)}",
        f"{conv / time.median:.2f}×" if conv else "",
        f"{time.median / limit:.2f}×" if limit else "",
        "" if timing.peak_bytes is None else words.size(timing.peak_bytes),
    )


def advice_text(advice: Advice) -> str:
    """Say what to use, and by how much."""
    if advice.form is None:
        return f"no advice: {safe(advice.note)}"
    gain, spread, ratio = advice.gain or 0.0, advice.spread or 0.0, advice.ratio or 0.0
    difference = f"{seconds(abs(gain))} {'less' if gain > 0 else 'more'}"
    figures = f"{ratio:.2f}× as fast, {difference}, spread {seconds(spread)}"
    if advice.form == advice.rival:
        return f"use {advice.form}: {figures}"
    return f"keep the {advice.form}: {advice.rival} is {figures}"


def names(modules: Sequence[str]) -> str:
    """Write the names of modules, those that differ in numbers only as one."""
    groups: dict[str, list[str]] = {}
    for name in modules:
        groups.setdefault(words.pattern(name), []).append(name)
    return ", ".join(words.folded(group) for group in groups.values())


def layer_rows(layer: TimedLayer) -> list[tuple[str, str]]:
    """Return what was timed: labels and values."""
    conv = words.signature(layer.form, layer.weight_shape, layer.geometry)
    bias = "" if layer.bias else ", no bias"
    return [
        ("layer", f"{conv}{bias}   {layer.dtype}"),
        ("evidence", words.evidence(*layer.evidence)),
        ("input", f"{words.shape(layer.input_shape)}   {safe(layer.size_source)}"),
    ]


def machine(found: Environment) -> str:
    """Say where it was measured."""
    threads = words.plural(found.threads, "thread")
    versions = f"torch {found.torch}, Python {found.python}, {found.system}"
    return f"{found.device} ({safe(found.device_name)}), {threads}, {versions}"


def method(setup: Setup) -> str:
    """Say how it was measured."""
    parts = [f"batch {setup.batch}", "compiled"] if setup.compiled else [f"batch {setup.batch}"]
    rounds = words.plural(setup.rounds, "round")
    return ", ".join((*parts, f"at most {rounds} in turns"))


def seconds(value: float) -> str:
    """Write a time with three digits: `309 µs`, `12.3 ms`, `1.02 s`."""
    if value <= 0:
        return "0 s"
    unit, scale = next((one for one in _UNITS if value >= one[1]), _UNITS[-1])
    scaled = value / scale
    digits = max(0, 2 - floor(log10(scaled))) if scaled >= 1 else 2
    return f"{scaled:.{digits}f} {unit}"
