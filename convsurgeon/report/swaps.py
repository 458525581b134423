"""The terminal view of `swap` and `restore`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.console import Group as Stack
from rich.padding import Padding
from rich.text import Text

from convsurgeon.plan import LayerPlan, Verdict
from convsurgeon.proof import LayerVerdict
from convsurgeon.report import words
from convsurgeon.report.facts import Facts
from convsurgeon.report.groups import Group, grouped
from convsurgeon.report.plans import (
    change,
    errors,
    evidence,
    file_tree,
    notes,
    shapes,
)
from convsurgeon.report.proofs import proof_rows
from convsurgeon.results import DenseReport, RestoreReport, SwappedFile, SwapReport
from convsurgeon.untrusted import safe


def show_swap(console: Console, report: SwapReport) -> None:
    """Print what `swap` did, or is about to do."""
    for file in report.files:
        _file(console, file)
    errors(console, [failure.message for failure in report.errors])
    if len(report.files) + len(report.errors) > 1:
        console.print(Text(_summary(report), "bold"))


def _file(console: Console, file: SwappedFile) -> None:
    verdicts = [layer for verdict in file.verdicts for layer in verdict.layers]
    others = sum(verdict.others for verdict in file.verdicts)

    def leaf(group: Group) -> RenderableType:
        return _leaf(group, group.verdicts(verdicts), others)

    console.print(file_tree(file.plan, grouped(file.plan.rewrites), leaf))
    left = [layer for layer in file.plan.layers if not layer.rewrite]
    if left:
        console.print(Text("  left alone", "dim"))
        console.print(_left_alone(left))
    console.print(Text(f"  {_totals(file)}", "bold"))
    if file.dense is not None:
        console.print(_network(file.dense))
    notes(console, file.plan.notes)
    if file.warning:
        console.print(Text(f"  warning: {safe(file.warning)}", "yellow", overflow="fold"))
    _outcome(console, file)


def _network(dense: DenseReport) -> RenderableType:
    """Return what becomes of the model as a whole, and what was found about it."""
    lines = str(dense).splitlines()
    texts = [Text("  fully convolutional", "dim")]
    texts += [Text(safe(line.strip()), overflow="fold") for line in lines[1:]]
    return Stack(texts[0], *(Padding(text, (0, 0, 0, 4)) for text in texts[1:]))


def _leaf(group: Group, verdicts: Sequence[LayerVerdict], others: int) -> RenderableType:
    rows: list[tuple[str, str | Text]] = [
        ("layer", change(group)),
        ("weight", shapes(group)),
        ("evidence", evidence(group)),
    ]
    return Facts([*rows, *proof_rows(verdicts, others)])


def _left_alone(layers: Sequence[LayerPlan]) -> RenderableType:
    lines: list[RenderableType] = []
    for group in grouped(layers):
        layer = group.first
        name = Text(group.name, overflow="fold")
        if len(group.layers) > 1:
            name.append(f"   {words.plural(len(group.layers), 'layer')}", "dim")
        why = f"{layer.code} {layer.reason}" if layer.code else layer.reason
        verdict = layer.verdict.value
        text = safe(why if why.startswith(verdict) else f"{verdict}: {why}")
        lines.append(Padding(name, (0, 0, 0, 4)))
        lines.append(Padding(Text(text, overflow="fold"), (0, 0, 0, 6)))
        if layer.evidence:
            source = Text(f"evidence: {evidence(group)}", "dim", overflow="fold")
            lines.append(Padding(source, (0, 0, 0, 6)))
        if layer.hint:
            hint = Text(safe(layer.hint), "magenta", overflow="fold")
            lines.append(Padding(hint, (0, 0, 0, 6)))
    return Stack(*lines)


def _totals(file: SwappedFile) -> str:
    rewritten = len(file.plan.rewrites)
    verb = "to rewrite" if file.outcome == "planned" else "rewritten"
    parts = [f"{rewritten} {verb}", f"{file.plan.tensors - rewritten} untouched"]
    for verdict in (Verdict.ALREADY, Verdict.REFUSED, Verdict.UNDECIDED):
        count = sum(layer.verdict is verdict for layer in file.plan.layers)
        parts += [f"{count} {verdict.value}"] if count else []
    return ", ".join(parts)


def _outcome(console: Console, file: SwappedFile) -> None:
    if file.output is None:
        why = "already in the target form" if file.plan.already else "nothing was eligible"
        console.print(Text(f"  skipped: {why}", "cyan"))
        return
    output = safe(file.output)
    if file.outcome == "planned":
        how = "in place, " if file.in_place else ""
        text = f"  → {output}, {how}not written (dry run)"
        console.print(Text(text, "cyan", overflow="fold"))
        return
    words_of = {
        "same": "already there with the same bytes",
        "skipped": "linked" if file.linked else "copied",
    }
    tail = words_of.get(file.outcome, words.duration(file.seconds))
    if file.in_place:
        tail = f"in place, {file.in_place.tensor_bytes} tensor bytes written, {tail}"
    line = Text("  → ", "green", overflow="fold").append(output, "bold").append(f", {tail}")
    console.print(line)
    if file.linked:
        files = words.plural(len(file.linked), "file")
        console.print(Text(f"  {files} shared with the source: hard links", overflow="fold"))
    if file.outcome == "skipped":
        return
    console.print(Facts(_ways_on(file, file.whole or file.output)))


def _ways_on(file: SwappedFile, whole: str) -> list[tuple[str, str | Text]]:
    model = (
        "model" if file.dense is None else "convsurgeon.fully_convolutional(model, images).model"
    )
    literal = safe(json.dumps(whole, ensure_ascii=False))
    load, undo = f"convsurgeon.load({model}, {literal})", "convsurgeon restore"
    rows: list[tuple[str, str | Text]] = []
    if file.in_place:
        undo += " --in-place"
        first, *others = (*file.in_place.sidecars, "")
        more = f" and {words.plural(len(others) - 1, 'other')}" if len(others) > 1 else ""
        rows += [("  recipe", f"{safe(first)}{more}")] if first else []
    undo += " --" if whole.startswith("-") else ""
    return [*rows, ("  load", load), ("  undo", f"{undo} {safe(shlex.quote(whole))}")]


def _summary(report: SwapReport) -> str:
    parts = [
        f"{sum(file.outcome == outcome for file in report.files)} {outcome}"
        for outcome in ("written", "same", "planned", "skipped")
        if any(file.outcome == outcome for file in report.files)
    ]
    parts += [f"{len(report.errors)} failed"] if report.errors else []
    total = words.plural(len(report.files) + len(report.errors), "checkpoint")
    return f"{total}: {', '.join(parts)}"


def show_restore(console: Console, report: RestoreReport) -> None:
    """Print what `restore` did."""
    for file in report.files:
        line = Text(safe(file.path), "bold", overflow="fold").append("  →  ", "green")
        line.append(safe(file.output), "bold")
        console.print(line)
        others = "no other byte was touched" if file.in_place else "every other byte was compared"
        there = "already there with the same bytes" if file.outcome == "same" else "written"
        rows: list[tuple[str, str | Text]] = [
            ("  restored", ", ".join(words.module(name) for name in file.layers)),
            ("  proof", f"recorded SHA-256 digests hold, {others}; {there}"),
        ]
        rows += [("  note", safe(file.note))] if file.note else []
        rows += [("  warning", safe(file.warning))] if file.warning else []
        console.print(Facts(rows))
