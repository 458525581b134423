"""All that was weighed about a layer, in lines. Pure text, for every view."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from convsurgeon.codes import codes
from convsurgeon.evidence import Heard, Level
from convsurgeon.plan import LayerPlan, Verdict

Line = tuple[str, str]


def weighed(layer: LayerPlan, silent: Sequence[Line]) -> Iterator[Line]:
    """Yield for each level what was heard, or why nothing was; a label stands once.

    Args:
        layer: of a plan that holds what was heard.
        silent: of its file: each level, and why its source says nothing where it does not.
    """
    for level, why in silent:
        said = [one for one in layer.heard or () if one.statement.level.label == level]
        texts = [text for one in said for text in _said(one)] or [f"silent: {why}"]
        yield level, texts[0]
        yield from (("", text) for text in texts[1:])


def _said(heard: Heard) -> list[str]:
    said = heard.statement
    inferred = said.level is Level.FINGERPRINT
    source = f"inferred from {said.source}" if inferred else said.source
    if said.failed:
        source = f"no inference from {said.source}"
    return [source, *said.details, f"says {said.says()}", heard.part]


def rule(layer: LayerPlan) -> str:
    """Return the rule that is carried out, or why there is none."""
    if layer.rewrite:
        return f"{layer.rewrite.rule}: {layer.rewrite.why}"
    if layer.code:
        return f"none: {codes()[layer.code].title}"
    reasons = {
        Verdict.ELIGIBLE: "none: the options leave the layer out",
        Verdict.ALREADY: "none is needed",
    }
    return reasons.get(layer.verdict, "none: every rule needs the geometry")


def way_to_change(layer: LayerPlan) -> str:
    """Return what the user can do about the verdict."""
    if layer.code:
        return codes()[layer.code].way_out
    if layer.hint:
        return layer.hint
    if layer.verdict is Verdict.ALREADY:
        return "convsurgeon restore gives the original file back, if it was swapped"
    if layer.rewrite:
        return "--exclude leaves it alone, --geometry states another geometry"
    return "leave out the --layer, --exclude or --only that leaves it out"
