"""The terminal view of a plan: every candidate in the module tree, with its verdict."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console, RenderableType
from rich.console import Group as Stack
from rich.text import Text
from rich.tree import Tree

from convsurgeon.plan import FilePlan, Plan, Verdict
from convsurgeon.report import words
from convsurgeon.report.facts import Facts
from convsurgeon.report.groups import Group, grouped
from convsurgeon.tree import compact, grow
from convsurgeon.untrusted import safe

STYLES = {
    Verdict.ELIGIBLE: "green",
    Verdict.ALREADY: "cyan",
    Verdict.REFUSED: "yellow",
    Verdict.UNDECIDED: "magenta",
}
Leaf = Callable[[Group], RenderableType]


def show_plan(console: Console, plan: Plan) -> None:
    """Print what `scan` found."""
    for file in plan.files:
        console.print(file_tree(file, grouped(file.layers), scan_leaf))
        console.print(Text(f"  {totals(file)}"))
        notes(console, file.notes)
    errors(console, [failure.message for failure in plan.errors])


def file_tree(file: FilePlan, groups: Sequence[Group], leaf: Leaf) -> Tree:
    """Return the module tree of a file that holds these groups."""
    title = Text(safe(file.path), style="bold", overflow="fold")
    title.append(f"   {words.plural(file.tensors, 'tensor')}, {words.size(file.bytes)}", "dim")
    tree = Tree(title, guide_style="dim")
    by_name: dict[str, list[Group]] = {}
    for group in groups:
        by_name.setdefault(group.name, []).append(group)
    branches = {"": tree}
    for node in compact(grow(by_name), by_name).walk():
        if node.path:
            parent = branches[node.path.removesuffix(node.name).removesuffix(".")]
            here = by_name.get(node.path, [])
            label = Text(node.name, overflow="fold")
            branches[node.path] = parent.add(_with_leaves(label, here, leaf))
    return tree


def _with_leaves(label: Text, groups: Sequence[Group], leaf: Leaf) -> RenderableType:
    if not groups:
        return label
    count = sum(len(group.layers) for group in groups)
    if count > 1:
        label.append(f"   {words.plural(count, 'layer')}", "dim")
    label.stylize("bold", 0, len(label.plain))
    return Stack(label, *(leaf(group) for group in groups))


def change(group: Group) -> Text:
    """Return a layer's form, and the one that it gets."""
    layer = group.first
    text = Text(words.before(layer), overflow="fold")
    if layer.rewrite:
        text.append("  ⇒  ", "bold green")
        text.append(words.after(layer, layer.rewrite))
    return text


def shapes(group: Group) -> str:
    """Return a weight's shape before and after, its dtype, and whether bytes move."""
    layer = group.first
    text = words.shape(layer.weight_shape)
    if layer.rewrite:
        text += f" → {words.shape(layer.rewrite.weight_shape)}"
    text += f"   {layer.dtype}"
    return f"{text}   {words.movement(layer.rewrite)}" if layer.rewrite else text


def evidence(group: Group) -> str:
    """Return where the geometry comes from."""
    if group.first.evidence is None:
        return "none"
    return words.evidence(*group.first.evidence)


def scan_leaf(group: Group) -> RenderableType:
    """Return what `scan` says about a group."""
    layer = group.first
    rows: list[tuple[str, str | Text]] = [
        ("layer", change(group)),
        ("weight", shapes(group)),
        ("evidence", evidence(group)),
        ("verdict", verdict_of(group)),
    ]
    if layer.hint:
        rows.append(("decide", Text(safe(layer.hint), "magenta", overflow="fold")))
    return Facts(rows)


def verdict_of(group: Group) -> Text:
    """Return the verdict with its code and reason."""
    layer = group.first
    verdict = Text(layer.verdict.value, STYLES[layer.verdict], overflow="fold")
    reason = f"{layer.code} {layer.reason}" if layer.code else layer.reason
    return verdict.append(f"   {safe(reason)}", "default")


def totals(file: FilePlan) -> str:
    """Return how many layers have which verdict."""
    counts = [
        f"{n} {verdict.value}"
        for verdict in Verdict
        if (n := sum(layer.verdict is verdict for layer in file.layers))
    ]
    return ", ".join(counts) or "no layer that could be rewritten"


def notes(console: Console, lines: Sequence[str]) -> None:
    """Print what the user should know although it stopped nothing."""
    for line in lines:
        console.print(Text(f"  note: {safe(line)}", "dim", overflow="fold"))


def errors(console: Console, lines: Sequence[str]) -> None:
    """Print the paths about which nothing could be said."""
    for line in lines:
        console.print(Text(f"  failed: {safe(line)}", "red", overflow="fold"))
