"""The three equalities, with their figures."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from convsurgeon.proof import Floats, Function, LayerVerdict
from convsurgeon.report import words
from convsurgeon.untrusted import safe

Rows = list[tuple[str, str | Text]]


def proof_rows(verdicts: Sequence[LayerVerdict], others: int) -> Rows:
    """Return a row per equality for layers that are shown as one: the worst figure counts."""
    if not verdicts:
        return []
    rows: Rows = [("bits", _bits(verdicts, others))]
    functions = [v.function for v in verdicts if v.function]
    if functions:
        rows.append(("function", _function(functions)))
    floats = [v.floats for v in verdicts if v.floats]
    if floats:
        rows.append(("floats", _floats(floats, verdicts[0])))
    return rows


def _mark(text: str, *, ok: bool) -> Text:
    mark = Text("✓ " if ok else "✗ ", "green" if ok else "bold red", overflow="fold")
    return mark.append(text, "default" if ok else "red")


def _bits(verdicts: Sequence[LayerVerdict], others: int) -> Text:
    wrong = next((v for v in verdicts if not v.bits.equal), None)
    if wrong:
        return _mark(f"{words.module(wrong.module)}: {safe(wrong.bits.note)}", ok=False)
    elements = sum(v.bits.elements for v in verdicts)
    text = f"{elements} of {elements} elements"
    tail = f", {words.plural(others, 'other tensor')} byte for byte" if others else ""
    return _mark(f"{text}{tail}", ok=True)


def _function(functions: Sequence[Function]) -> Text:
    worst = max(functions, key=lambda f: (not f.equal, f.difference / (f.bound or 1.0)))
    sign = "≤" if worst.equal else ">"
    text = f"{words.figure(worst.difference)} {sign} {words.figure(worst.bound)} in float64"
    return _mark(f"{text}, {words.plural(len(worst.inputs), 'input size')}", ok=worst.equal)


def _floats(floats: Sequence[Floats], verdict: LayerVerdict) -> str:
    worst = max(floats, key=lambda f: max(f.before, f.after))
    forms = zip(verdict.forms, (worst.before, worst.after), strict=True)
    text = ", ".join(f"{form} {words.figure(value)}" for form, value in forms)
    return f"{text} from float64, in {worst.dtype}"
