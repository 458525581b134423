"""`swap`: rewrite, verify, then publish the new file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from time import perf_counter
from typing import Unpack

from convsurgeon.api.choices import Choices, Request
from convsurgeon.api.claiming import claimed
from convsurgeon.api.in_place import swap_in_place
from convsurgeon.api.paths import (
    MadeFolders,
    Paths,
    Trouble,
    check_no_output,
    check_outside,
    check_spared,
    names_file,
    no_folder,
    raise_if_alone,
    resolve,
    target_of,
    trouble,
)
from convsurgeon.api.planning import Planner, failure
from convsurgeon.api.work import Progress, Worker, quiet
from convsurgeon.errors import ConvsurgeonError, NothingToDoError, OutputError, UsageError
from convsurgeon.plan import FilePlan
from convsurgeon.results import DenseReport, SwappedFile, SwapReport
from convsurgeon.store import (
    INDEX_SUFFIX,
    Checkpoint,
    checkpoint_paths,
    is_folder,
    remove_stale,
)
from convsurgeon.untrusted import safe

LEVELS = ("full", "bits", "exhaustive")


@dataclass(frozen=True, slots=True)
class _Run:
    planner: Planner
    worker: Worker
    out: str | PathLike[str] | None
    dry_run: bool
    in_place: bool
    alone: bool = False
    taken: set[Path] = field(default_factory=set)


def swap(  # noqa: PLR0913 - one keyword per option, as on the command line
    paths: Paths,
    out: str | PathLike[str] | None = None,
    *,
    verify: str = "full",
    force: bool = False,
    dry_run: bool = False,
    link: bool = False,
    in_place: bool = False,
    progress: Progress = quiet,
    **choices: Unpack[Choices],
) -> SwapReport:
    """Rewrite the eligible layers of checkpoints into new files, proved before they get their name.

    Args:
        paths: files, indexes, folders or patterns; one or several.
        out: a file (ends in .safetensors) or a folder; by default beside the source.
        verify: `"full"`; `"bits"` leaves out what needs torch; `"exhaustive"` samples nothing.
        force: whether existing outputs are replaced.
        dry_run: whether to plan only; the report then holds the very plan that a run carries out.
        link: whether files of tensors that do not change become hard links in the new folder.
        in_place: whether only the headers are rewritten, where they are.
        progress: told what is being worked on, how many bytes are done, and of how many.
        **choices: see `Choices`.

    Returns:
        The report. Among several paths, those that failed stand under `errors`.

    Raises:
        UsageError: for choices that cannot be understood.
        RefusedError: where the only path was refused; NothingToDoError where it has nothing to do.
        NotEquivalentError: where the proof failed; nothing was published.
    """
    _check_level(verify)
    worker = Worker(force, verify != "bits", verify == "exhaustive", link, progress)
    return _swap_all(_Run(Planner(Request.of(choices)), worker, out, dry_run, in_place), paths)


def _check_level(verify: str) -> None:
    if verify not in LEVELS:
        known = ", ".join(map(repr, LEVELS))
        raise UsageError("CS090", f"{verify!r} is none of {known}", where="--verify")


def _swap_all(run: _Run, paths: Paths) -> SwapReport:
    found, troubles = resolve(paths)
    if run.in_place:
        check_no_output(run.out, force=run.worker.force, link=run.worker.link)
        recursive = run.planner.request.read.recursive
        found = _checkpoints(found, troubles, recursive=recursive)
    run = replace(run, alone=len(found) + len(troubles) == 1)
    return _swap_each(run, found, troubles)


def _checkpoints(found: list[Path], troubles: list[Trouble], *, recursive: bool) -> list[Path]:
    """Return each checkpoint of each folder: in place, every one is an output of its own."""
    inner: dict[Path, None] = {}
    for path in found:
        try:
            inner.update(dict.fromkeys(checkpoint_paths(path, recursive=recursive)))
        except (ConvsurgeonError, OSError) as error:
            troubles.append(trouble(path, error))
    return list(inner)


def _swap_each(run: _Run, found: list[Path], troubles: list[Trouble]) -> SwapReport:
    if run.out is not None and not run.alone and names_file(run.out):
        raise no_folder(run.out)
    files: list[SwappedFile] = []
    for path in found:
        try:
            files.extend(_swap_one(run, path))
        except (ConvsurgeonError, OSError) as error:
            troubles.append(trouble(path, error))
    raise_if_alone(files, troubles)
    return SwapReport(tuple(files), tuple(failure(path, error) for path, error in troubles))


def _swap_one(run: _Run, path: Path) -> list[SwappedFile]:
    start = perf_counter()
    recursive = run.planner.request.read.recursive
    inner = checkpoint_paths(path, recursive=recursive)
    work = [run.planner.read(checkpoint) for checkpoint in inner]
    plans = [plan for _, plan in work]
    if not any(plan.rewrites for plan in plans):
        # In a batch, a file without an eligible layer is no failure; alone, it is what was asked.
        if run.alone and not any(plan.already for plan in plans):
            raise _nothing(path, plans)
        if run.in_place and not run.dry_run:  # what an earlier run could not remove
            for source in (s for checkpoint, _ in work for s in checkpoint.sources):
                remove_stale(source.path)
        seconds = perf_counter() - start
        return [SwappedFile(plan, None, None, "skipped", seconds) for plan in plans]
    dense = [_dense(run, checkpoint) for checkpoint, _ in work]
    rows = _carried_out(run, path, work, start)
    return [replace(row, dense=one) for row, one in zip(rows, dense, strict=True)]


def _dense(run: _Run, checkpoint: Checkpoint) -> DenseReport | None:
    """Prove the whole network with the weights of a checkpoint, where one was asked for."""
    request, plan = run.planner.request, run.planner.dense
    if plan is None or request.sliding is None or request.model is None:
        return None
    if run.dry_run or not run.worker.function:
        return DenseReport(plan)
    from convsurgeon.api.traced import proved

    return proved(checkpoint, request.model, request.sliding)


def _carried_out(
    run: _Run, path: Path, work: list[tuple[Checkpoint, FilePlan]], start: float
) -> list[SwappedFile]:
    recursive = run.planner.request.read.recursive
    if run.in_place:
        return [swap_in_place(run.worker, *work[0], dry_run=run.dry_run)]
    target = target_of(path, run.out, run.planner.request.wish.to, alone=run.alone)
    whole = path.name.endswith(INDEX_SUFFIX) or is_folder(path)
    _check_target(run, path, target, recursive=recursive)
    if whole:
        check_spared(target, [path, *(s.path for one, _ in work for s in one.sources)])
    if run.dry_run:
        name, seconds = str(target), perf_counter() - start
        return [SwappedFile(plan, name, name, "planned", seconds) for _, plan in work]
    with MadeFolders(target):
        if whole:
            return run.worker.folder(path, work, target, recursive=recursive)
        with claimed(target, force=run.worker.force):
            return [run.worker.file(*work[0], target)]


def _check_target(run: _Run, path: Path, target: Path, *, recursive: bool) -> None:
    if target in run.taken:
        hint = "swap the files one by one, each with its own -o"
        message = "the output of another file of this call has this name"
        raise OutputError("CS070", message, where=target, hint=hint)
    run.taken.add(target)
    if recursive and is_folder(path):
        check_outside(target, path, "copied")


def _nothing(path: Path, plans: list[FilePlan]) -> NothingToDoError:
    layers = [layer for plan in plans for layer in plan.layers]
    counts = [
        f"{n} {verdict}"
        for verdict in ("eligible but not chosen", "refused", "undecided")
        if (n := sum(layer.verdict.value == verdict.split()[0] for layer in layers))
    ]
    found = ", ".join(counts) or "no layer of the kind"
    if len(layers) == 1:
        found += f" ({safe(layers[0].module)}: {layers[0].reason})"
    hint = "convsurgeon scan lists each with its reason and what would decide it"
    return NothingToDoError("CS080", f"nothing is eligible: {found}", where=path, hint=hint)
