"""What running whole models found, and on what a verdict was found, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from convsurgeon.proof import Drift, ModelVerdict, Verdict
from convsurgeon.report.words import figure, plural, shape, size
from convsurgeon.untrusted import safe

_SHOWN = 3


def model_lines(model: ModelVerdict) -> Iterator[tuple[str, str]]:
    """Yield labels and values: what was loaded and run, every output, and where it drifts."""
    yield "loaded", f"{model.how}{'' if not model.refused else ', not as it should be'}"
    yield from (("refused", safe(line)) for line in model.refused)
    if model.inputs:
        given = ", ".join(f"{safe(one.name)} {shape(one.shape)}".strip() for one in model.inputs)
        yield "inputs", f"{given}, seed {model.seed}, {model.dtype}"
        yield (
            "yardstick",
            f"{model.perturbations} changes of the input by one unit in its last place",
        )
    yield from (("output", _output(one)) for one in model.outputs)
    worst = sorted(model.layers, key=lambda one: -one.ratio)[:_SHOWN]
    yield from (("drift", _output(one)) for one in worst if one.ratio)
    yield from (("note", safe(note)) for note in model.notes)


def _output(one: Drift) -> str:
    name = safe(one.name)
    if one.note:
        return f"{name}: {safe(one.note)}"
    sides = f"{figure(one.difference)} off, {figure(one.yardstick)} for the yardstick"
    return f"{name} {shape(one.shape)}: {one.ratio:.2g} yardsticks ({sides})"


def circumstances(verdict: Verdict) -> Iterator[str]:
    """Yield what makes a verdict a receipt: digests, versions, and how it agrees with another."""
    for file in verdict.files:
        for digest in file.digests or ():
            for one in (digest, digest.sidecar):
                if one:
                    yield f"sha256 {one.sha256} {safe(one.name)}, {size(one.bytes)}"
    if verdict.environment:
        found = verdict.environment
        torch = f", torch {found.torch}, {plural(found.threads, 'thread')}" if found.torch else ""
        yield f"convsurgeon {found.convsurgeon}, Python {found.python}{torch}, {found.system}"
    if verdict.receipt:
        yield from receipt_lines(verdict.receipt.differences, verdict.receipt.remarks)
        yield f"{verdict.receipt.agreed} facts as in {safe(verdict.receipt.path)}"


def receipt_lines(differences: Sequence[str], remarks: Sequence[str]) -> Iterator[str]:
    """Yield what is otherwise than in a receipt."""
    yield from (f"otherwise than in the receipt: {safe(line)}" for line in differences)
    yield from (f"remark: {safe(line)}" for line in remarks)
