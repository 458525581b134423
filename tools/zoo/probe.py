"""Second pass: build again with other numbers, and see whether the expressions foretell the result.

An expression that lost its field on the way (`int(x / 2)`) looks like a constant until the field
changes. What an expression foretells wrongly is dropped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any

from tools.zoo.models import Built, Candidate, Changes, TooLongError, time_limit
from tools.zoo.provenance import evaluated, fields_of
from tools.zoo.rows import AXES, conv_of
from tools.zoo.tables import Row

Geometry = dict[str, Any]
NO_FIELD = "no field"
"""The outcome where no field occurs in the expressions of what is eligible."""
_SECONDS = 30
_SIZES = ("image_size", "img_size", "sample_size", "input_size", "crop_size")
_FACTORS = ((2, 3, 5, 7), (2, 2, 2, 2), (1, 2, 1, 2), (2, 1, 2, 1))


def wanted(row: Row) -> list[dict[str, Any]]:
    """Return the convolutions that a probe is about: eligible, with a kernel above 1.

    Where a model has none of these, every eligible one; where it has none at all, every one: with
    other numbers it may be eligible.
    """
    eligible = [conv for conv in row["convs"] if conv["eligible"]]
    return [conv for conv in eligible if max(conv["kernel"]) > 1] or eligible or row["convs"]


def geometries(model: Any) -> dict[str, Geometry]:
    """Return the geometry of each live convolution by its module name."""
    base = import_module("torch.nn.modules.conv")._ConvNd  # noqa: SLF001
    found = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, base):
            conv = conv_of(module, name, {})
            found[name] = {axis: conv[axis] for axis in (*AXES, "groups")}
    return found


def foretold(origin: Mapping[str, Any], values: Mapping[str, Any]) -> Geometry | None:
    """Return the geometry that the expressions say for these values; None if they say none."""
    try:
        axes = {
            axis: origin[axis]
            if isinstance(origin[axis], str)
            else [evaluated(each, values) for each in origin[axis]]
            for axis in AXES
        }
        return axes | {"groups": evaluated(origin["groups"], values)}
    except (LookupError, TypeError, ArithmeticError):
        return None


def tried(candidate: Candidate, changes: Changes) -> Built | str:
    """Return the changed model, or why there is none."""
    try:
        with time_limit(_SECONDS):
            return candidate.build(changes)
    except (Exception, TooLongError) as error:  # noqa: BLE001 - the libraries' own code
        return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"


def changed(fields: Sequence[str], values: Mapping[str, Any]) -> Iterator[Changes]:
    """Yield sets of other values for the fields, the most telling first.

    In the first set each field, and each element of a list, grows by its own factor, so that a
    kernel and a stride that are two fields part. Image sizes follow in every second set.
    """
    for factors in _FACTORS:
        made: Changes = {}
        for count, path in enumerate(fields):
            made[path] = _scaled(values.get(path), factors, count)
        sizes = {
            path: _scaled(value, (210,), 0)
            for path, value in values.items()
            if path.rpartition(".")[2] in _SIZES and path not in made
        }
        if made != {path: values.get(path) for path in fields}:
            yield made
            yield made | sizes
    halves = {path: _halved(values.get(path)) for path in fields}
    if halves != {path: values.get(path) for path in fields}:
        yield halves


def _scaled(value: Any, factors: Sequence[int], count: int) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_scaled(v, factors, count + i) for i, v in enumerate(value))
    number = isinstance(value, int) and not isinstance(value, bool)
    return int(value) * factors[count % len(factors)] if number else value


def _halved(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(_halved(v) for v in value)
    number = isinstance(value, int) and not isinstance(value, bool)
    return max(1, int(value) // 2) if number else value


def probed(row: Row, candidate: Candidate) -> Row:
    """Return the row with `probe`, each conv with `probed`, and without refuted expressions."""
    targets = {conv["module"] for conv in wanted(row)}
    fields = sorted({f for conv in wanted(row) for f in fields_of(conv["from"])})
    others = sorted(row["defaults"].keys() - set(fields))
    first = _first(row, candidate, fields, targets)
    second = _first(row, candidate, others, set())
    verdicts: dict[str, bool] = {}
    for found in (first, second):
        if isinstance(found, dict):
            verdicts |= {m: verdicts.get(m, True) and same for m, same in found.items()}
    convs = [_judged(conv, verdicts) for conv in row["convs"]]
    differing = sorted(module for module, same in verdicts.items() if not same)
    failed = NO_FIELD if first == NO_FIELD else f"not built: {first}"
    outcome = failed if isinstance(first, str) else "agrees"
    probe = "differs" if differing else outcome
    return row | {"convs": convs, "probe": probe, "probe_differs": differing}


def _judged(conv: dict[str, Any], verdicts: Mapping[str, bool]) -> dict[str, Any]:
    same = verdicts.get(conv["module"])
    return conv | {"probed": same is not None, "from": None if same is False else conv["from"]}


def _first(
    row: Row, candidate: Candidate, fields: Sequence[str], targets: set[str]
) -> dict[str, bool] | str:
    """Return for each convolution whether the first set that builds agrees, or why none builds."""
    reason = NO_FIELD
    base = candidate.build({}).values if fields else {}
    origins = {conv["module"]: conv["from"] for conv in row["convs"] if conv["from"]}
    for changes in changed(fields, base):
        built = tried(candidate, changes)
        if isinstance(built, str):
            reason = built
            continue
        live = geometries(built.model)
        if targets <= live.keys():
            both = origins.keys() & live.keys()
            return {m: foretold(origins[m], built.values) == live[m] for m in both}
        reason = "the convolutions have other names"
    return reason


def signature(row: Row) -> str:
    """Return what rows have in common that one probe of a switch may stand for."""
    convs = {json.dumps([tail(c["module"]), c["from"]], sort_keys=True) for c in wanted(row)}
    return json.dumps([row["source"], row["family"], sorted(convs)])


def tail(module: str) -> str:
    """Return the last two components of a module's name that are no index."""
    return ".".join([part for part in module.split(".") if not part.isdigit()][-2:])
