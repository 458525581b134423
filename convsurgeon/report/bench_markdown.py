"""The Markdown view of `bench`."""

from __future__ import annotations

from collections.abc import Iterator

from convsurgeon.report.bench_words import COLUMNS, blocks, layer_rows, machine, method, names
from convsurgeon.report.markdown import cell, table
from convsurgeon.timing import BenchReport, TimedLayer


def bench_as_markdown(report: BenchReport) -> str:
    """Return a report as Markdown."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: BenchReport) -> Iterator[str]:
    for file in report.files:
        yield f"## {cell(file.path)}"
        yield ""
        for layer in file.layers:
            yield from _layer(layer)
        yield from (f"- note: {cell(note)}" for note in file.notes)
    yield f"- {cell(machine(report.environment))}"
    yield f"- {cell(method(report.setup))}"
    yield from (f"- note: {cell(note)}" for note in report.notes)
    yield from (f"- failed: {cell(failure.message)}" for failure in report.errors)


def _layer(layer: TimedLayer) -> Iterator[str]:
    yield f"### {cell(names(layer.modules))}"
    yield ""
    yield from (f"- {label}: {cell(text)}" for label, text in layer_rows(layer))
    yield ""
    for block in blocks(layer):
        yield f"{cell(block.title)}:"
        yield ""
        yield from table(COLUMNS, iter(block.rows))
        yield from (f"- {cell(note)}" for note in block.notes)
        yield f"- **{cell(block.advice)}**"
        yield ""
