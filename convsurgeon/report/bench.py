"""The terminal view of `bench`."""

from __future__ import annotations

from rich.console import Console, RenderableType
from rich.console import Group as Stack
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from convsurgeon.report import words
from convsurgeon.report.bench_words import (
    COLUMNS,
    Block,
    blocks,
    layer_rows,
    machine,
    method,
    names,
)
from convsurgeon.report.facts import Facts
from convsurgeon.report.plans import errors, notes
from convsurgeon.timing import BenchReport, TimedLayer
from convsurgeon.untrusted import safe

_WIDTHS = (13, 8, 18, 7, 8, 8)
"""Those of the longest texts, so that the tables of all layers stand below each other."""


def show_bench(console: Console, report: BenchReport) -> None:
    """Print what `bench` measured."""
    for file in report.files:
        tree = Tree(Text(safe(file.path), "bold", overflow="fold"), guide_style="dim")
        for layer in file.layers:
            tree.add(_layer(layer))
        console.print(tree)
        notes(console, file.notes)
    if report.files:
        for line in (machine(report.environment), method(report.setup)):
            console.print(Text(line, "dim", overflow="fold"))
    notes(console, report.notes)
    errors(console, [failure.message for failure in report.errors])


def _layer(layer: TimedLayer) -> RenderableType:
    label = Text(names(layer.modules), "bold", overflow="fold")
    if len(layer.modules) > 1:
        label.append(f"   {words.plural(len(layer.modules), 'layer')}, timed once", "dim")
    return Stack(label, Facts(layer_rows(layer)), *(_block(block) for block in blocks(layer)))


def _block(block: Block) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for place, (name, width) in enumerate(zip(COLUMNS, _WIDTHS, strict=True)):
        side = "right" if place else "left"
        table.add_column(name, min_width=width, justify=side, overflow="fold")  # type: ignore[arg-type]
    for place, row in enumerate(block.rows):
        table.add_row(*map(Text, row), style="bold green" if place == block.chosen else None)
    advice = Text(block.advice, "bold", overflow="fold")
    remarks = (Text(note, "dim", overflow="fold") for note in block.notes)
    return Padding(
        Stack(Text(block.title, "italic"), table, *remarks, advice), (1, 0, 0, 0), expand=False
    )
