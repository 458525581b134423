"""The Markdown view, for pull requests and job summaries."""

from __future__ import annotations

from collections.abc import Iterator

from convsurgeon.plan import FilePlan, LayerPlan, Plan
from convsurgeon.proof import LayerVerdict, ModelVerdict, Verdict
from convsurgeon.report import words
from convsurgeon.report.account import rule, way_to_change, weighed
from convsurgeon.report.drifts import circumstances, model_lines
from convsurgeon.report.figures import floats_text, function_text
from convsurgeon.results import RestoreReport, SwapReport
from convsurgeon.untrusted import safe

_COLUMNS = ("layer", "before", "after", "shape", "dtype", "bytes", "evidence", "verdict")


def as_markdown(value: Plan | SwapReport | Verdict | RestoreReport) -> str:
    """Return a report as Markdown."""
    return "\n".join(_lines(value)) + "\n"


def _lines(value: Plan | SwapReport | Verdict | RestoreReport) -> Iterator[str]:
    if isinstance(value, Verdict):
        yield f"## {'equivalent' if value.equivalent else 'not equivalent'}"
        yield ""
        for verdict in value.files:
            yield from _proofs(verdict.layers)
            yield from (f"- {cell(difference)}" for difference in verdict.differences)
        yield from _models(value.models)
        yield from (f"- {cell(line)}" for line in circumstances(value))
        yield from (f"- note: {cell(note)}" for note in value.notes)
        return
    if isinstance(value, RestoreReport):
        yield from (f"- {cell(file.path)} → {cell(file.output)}" for file in value.files)
        return
    for file in value.files:
        yield from _plan(file if isinstance(file, FilePlan) else file.plan)
        if not isinstance(file, FilePlan):
            yield from (line for v in file.verdicts for line in _proofs(v.layers))
            if file.dense is not None:
                yield from (f"- {cell(line.strip())}" for line in str(file.dense).splitlines()[1:])
                yield ""
            how = ", in place, 0 tensor bytes written" if file.in_place else ""
            yield f"output: {cell(file.output or 'none')}, {file.outcome}{how}"
            yield ""
    yield from (f"- failed: {cell(failure.message)}" for failure in value.errors)


def _plan(file: FilePlan) -> Iterator[str]:
    tensors = words.plural(file.tensors, "tensor")
    yield f"## {cell(file.path)}"
    yield ""
    yield f"{tensors}, {words.size(file.bytes)}"
    yield ""
    yield from table(_COLUMNS, (_layer(layer) for layer in file.layers))
    yield from (line for layer in file.layers for line in _account(layer, file))
    if file.notes:
        yield from (f"- note: {cell(note)}" for note in file.notes)
        yield ""  # a table right below a list would be a part of it


def _account(layer: LayerPlan, file: FilePlan) -> Iterator[str]:
    if layer.heard is None:
        return
    last = [("rule", rule(layer)), ("to change", way_to_change(layer))]
    yield f"All that was weighed about {cell(words.module(layer.module))}:"
    yield ""
    yield from table(("", "evidence"), iter([*weighed(layer, file.silent), *last]))


def _layer(layer: LayerPlan) -> tuple[str, ...]:
    rewrite = layer.rewrite
    shape = words.shape(layer.weight_shape)
    verdict = f"{layer.verdict.value}: {layer.code or ''} {layer.reason} {layer.hint}"
    return (
        words.module(layer.module),
        words.before(layer),
        words.after(layer, rewrite) if rewrite else "",
        f"{shape} → {words.shape(rewrite.weight_shape)}" if rewrite else shape,
        layer.dtype,
        words.movement(rewrite) if rewrite else "",
        words.evidence(*layer.evidence) if layer.evidence else "none",
        " ".join(verdict.split()),
    )


def _models(models: tuple[ModelVerdict, ...]) -> Iterator[str]:
    for model in models:
        yield f"- whole model: {cell(model.source)}, {'yes' if model.equivalent else 'no'}"
        yield from (f"  - {label}: {cell(text)}" for label, text in model_lines(model))


def _proofs(layers: tuple[LayerVerdict, ...]) -> Iterator[str]:
    yield from table(("layer", "given", "bits", "function", "floats"), map(_proof, layers))


def _proof(layer: LayerVerdict) -> tuple[str, ...]:
    bits, function, floats = layer.bits, layer.function, layer.floats
    return (
        words.module(layer.module),
        words.given(layer),
        f"{bits.elements} of {bits.elements}" if bits.equal else bits.note,
        function_text([function]) if function else "not run",
        floats_text([floats], layer.forms) if floats else "not run",
    )


def table(columns: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    """Yield the lines of a table, and an empty one; every cell is escaped."""
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    yield from (f"| {' | '.join(map(cell, row))} |" for row in rows)
    yield ""


def cell(text: str) -> str:
    """Escape what Markdown or HTML would act on: names come from files."""
    escaped = safe(text).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{c}" if c in "\\`*_[]|#" else c for c in escaped)
