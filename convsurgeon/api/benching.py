"""`bench`: the forms of each eligible layer, timed here, and which one to use."""

from __future__ import annotations

from os import PathLike
from typing import Unpack, cast

from convsurgeon.api.bench_choices import OWN, BenchChoices, setup_of
from convsurgeon.api.choices import Choices, Request
from convsurgeon.api.model_plans import plan_of_model
from convsurgeon.api.paths import Trouble, raise_if_alone, resolve
from convsurgeon.api.planning import Planner, failure
from convsurgeon.api.work import Progress, quiet
from convsurgeon.errors import ConvsurgeonError, NothingToDoError, UsageError
from convsurgeon.plan import FilePlan, Verdict
from convsurgeon.sources.image_size import ImageSize
from convsurgeon.store import checkpoint_paths
from convsurgeon.timing import BenchFile, BenchReport, Setup
from convsurgeon.timing.device import environment
from convsurgeon.timing.run import dtype_notes, prepared, timed
from convsurgeon.timing.subjects import Size, read_size, subjects

Found = tuple[FilePlan, ImageSize | None]


def bench(
    path: str | PathLike[str] | None = None,
    *,
    progress: Progress = quiet,
    **choices: Unpack[BenchChoices],
) -> BenchReport:
    """Time the forms of each distinct eligible layer in turns, and recommend one or the conv.

    Only headers are read: weights and inputs are random, since no time depends on them. Where
    nothing says how large the input of a layer is, it is 16 windows by 16.

    Args:
        path: a file, an index, a folder or a pattern; None to time the layers of `model` alone.
        progress: told which layer is timed, how many are done, and of how many.
        **choices: see `BenchChoices`, and `Choices` without `to`.

    Returns:
        The report. Of a folder with several checkpoints, those that failed stand under `errors`.

    Raises:
        UsageError: for choices that cannot be understood, or a device that is not here.
        RefusedError: CS052 without torch; where the only checkpoint was refused;
            NothingToDoError where no layer is eligible.
        NotEquivalentError: CS086 where two forms of a layer compute different functions.
    """
    setup = setup_of(choices)
    asked = choices.get("input_size")
    size = None if asked is None else read_size(asked)
    evidence = {name: value for name, value in choices.items() if name not in OWN}
    request = Request.of(cast("Choices", evidence))
    found, troubles = _of_model(request) if path is None else _of_path(path, request)
    raise_if_alone(found, troubles)
    if not troubles and not any(plan.rewrites for plan, _ in found):
        raise _nothing([plan for plan, _ in found])
    setup, notes = prepared(setup)
    files = tuple(_file(one, size, setup, progress) for one in found if one[0].rewrites)
    errors = tuple(failure(where, error) for where, error in troubles)
    return BenchReport(environment(setup.device), setup, files, notes, errors)


def _of_path(path: str | PathLike[str], request: Request) -> tuple[list[Found], list[Trouble]]:
    planner = Planner(request)
    found: list[Found] = []
    places, troubles = resolve(path)
    for place in places:
        for inner in checkpoint_paths(place, recursive=request.read.recursive):
            try:
                checkpoint, plan = planner.read(inner)
                found.append((plan, ImageSize.beside(checkpoint.path)))
            except ConvsurgeonError as error:
                troubles.append((str(inner), error))
    return found, troubles


def _of_model(request: Request) -> tuple[list[Found], list[Trouble]]:
    if request.model is None:
        hint = "name a checkpoint, or a model with --model SPEC"
        raise UsageError("CS090", "there is nothing to time", where="bench", hint=hint)
    return [(plan_of_model(request.model, request), None)], []


def _file(found: Found, asked: Size | None, setup: Setup, progress: Progress) -> BenchFile:
    plan, image = found
    layers = subjects(plan, asked, image)
    undecided = sum(layer.verdict is Verdict.UNDECIDED for layer in plan.layers)
    text = f"{undecided} undecided: convsurgeon scan says what would decide each"
    notes = (*plan.notes, *dtype_notes(layers, setup), *([text] if undecided else []))
    return BenchFile(plan.path, timed(layers, setup, progress), notes)


def _nothing(plans: list[FilePlan]) -> NothingToDoError:
    layers = [layer for plan in plans for layer in plan.layers]
    counts = [
        f"{number} {verdict.value}"
        for verdict in Verdict
        if (number := sum(layer.verdict is verdict for layer in layers))
    ]
    hint = "convsurgeon scan lists each with its reason and what would decide it"
    text = f"nothing to time: {', '.join(counts) or 'no layer of the kind'}"
    where = plans[0].path if len(plans) == 1 else ""
    return NothingToDoError("CS080", text, where=where, hint=hint)
