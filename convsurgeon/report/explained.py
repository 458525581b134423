"""The terminal view of `scan --explain`: all that was weighed about a layer."""

from __future__ import annotations

from functools import partial

from rich.console import Console, RenderableType
from rich.text import Text

from convsurgeon.plan import FilePlan, Plan
from convsurgeon.report.account import rule, way_to_change, weighed
from convsurgeon.report.facts import Facts
from convsurgeon.report.groups import Group, grouped
from convsurgeon.report.plans import change, errors, file_tree, notes, shapes, verdict_of
from convsurgeon.untrusted import safe


def show_explained(console: Console, plan: Plan) -> None:
    """Print everything about the layers of a plan that are to be explained."""
    for file in plan.files:
        groups = grouped(layer for layer in file.layers if layer.heard is not None)
        console.print(file_tree(file, groups, partial(_leaf, file)))
        notes(console, file.notes)
    errors(console, [failure.message for failure in plan.errors])


def _leaf(file: FilePlan, group: Group) -> RenderableType:
    layer = group.first
    rows: list[tuple[str, str | Text]] = [("layer", change(group)), ("weight", shapes(group))]
    rows += [(label, safe(text)) for label, text in weighed(layer, file.silent)]
    rows += [
        ("rule", rule(layer)),
        ("verdict", verdict_of(group)),
        ("to change", safe(way_to_change(layer))),
    ]
    return Facts(rows)
