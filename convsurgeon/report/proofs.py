"""The three equalities, with their figures."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from convsurgeon.proof import LayerVerdict
from convsurgeon.report import words
from convsurgeon.report.figures import floats_text, function_text
from convsurgeon.untrusted import safe

Rows = list[tuple[str, str | Text]]


def proof_rows(verdicts: Sequence[LayerVerdict], others: int) -> Rows:
    """Return a row per equality for layers that are shown as one: the worst figure counts."""
    if not verdicts:
        return []
    rows: Rows = [("bits", _bits(verdicts, others))]
    functions = [v.function for v in verdicts if v.function]
    if functions:
        equal = all(function.equal for function in functions)
        rows.append(("function", _mark(function_text(functions), ok=equal)))
    floats = [v.floats for v in verdicts if v.floats]
    if floats:
        rows.append(("floats", floats_text(floats, verdicts[0].forms)))
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
