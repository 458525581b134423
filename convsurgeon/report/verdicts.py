"""The terminal view of `verify`."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from convsurgeon.proof import FileVerdict, LayerVerdict, ModelVerdict, Verdict
from convsurgeon.report import words
from convsurgeon.report.drifts import circumstances, model_lines
from convsurgeon.report.facts import Facts
from convsurgeon.report.groups import alike
from convsurgeon.report.plans import notes
from convsurgeon.report.proofs import Rows, proof_rows
from convsurgeon.untrusted import safe


def show_verdict(console: Console, verdict: Verdict) -> None:
    """Print what verification found."""
    for file in verdict.files:
        _file(console, file)
    for model in verdict.models:
        _model(console, model)
    for line in circumstances(verdict):
        console.print(Text(line, "dim", overflow="fold"))
    notes(console, verdict.notes)
    if not verdict.equivalent:
        console.print(Text("not equivalent", "bold red"))
        return
    layers = sum(len(file.layers) for file in verdict.files)
    scope = "" if verdict.scope == "file" else "; only the rewritten tensors, by recorded digests"
    sampled = "; one-hot inputs were sampled, --exhaustive tries all" if verdict.sampled else ""
    models = ", and the whole model" if any(model.outputs for model in verdict.models) else ""
    text = f"equivalent: {words.plural(layers, 'rewritten layer')}{models}{scope}{sampled}"
    console.print(Text(text, "bold green", overflow="fold"))


def _model(console: Console, model: ModelVerdict) -> None:
    mark = ("✓ ", "green") if model.equivalent else ("✗ ", "bold red")
    title = Text.assemble(mark, (f"whole model: {safe(model.source)}", "bold"), overflow="fold")
    tree = Tree(title, guide_style="dim")
    tree.add(Facts(list(model_lines(model))))
    console.print(tree)


def _file(console: Console, file: FileVerdict) -> None:
    title = Text(safe(file.original), "bold", overflow="fold")
    title.append("  →  " if file.original else "", "dim").append(safe(file.swapped), "bold")
    tree = Tree(title, guide_style="dim")
    for layers in alike(file.layers):
        label = Text(words.folded(v.module for v in layers), "bold", overflow="fold")
        if len(layers) > 1:
            label.append(f"   {words.plural(len(layers), 'layer')}", "dim")
        tree.add(label).add(Facts(_rows(layers)))
    for difference in file.differences:
        tree.add(Text(f"✗ {safe(difference)}", "red", overflow="fold"))
    if file.renamed and file.equivalent:
        names = f"{words.plural(len(file.renamed), 'tensor')} renamed, as the recipe says"
        tree.add(Text(names, "dim", overflow="fold"))
    if file.others:
        same = "compared byte for byte"
        tree.add(Text(f"{words.plural(file.others, 'other tensor')} {same}", "dim"))
    console.print(tree)


def _rows(layers: Sequence[LayerVerdict]) -> Rows:
    layer = layers[0]
    shapes = " → ".join(words.shape(sizes) for sizes in layer.shapes)
    rows: Rows = [
        ("layer", f"{layer.forms[0]} ⇒ {layer.forms[1]}   {shapes}"),
        ("given", words.given(layer)),
    ]
    return [*rows, *proof_rows(layers, 0)]
