"""`restore`: undo, byte for byte."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

from convsurgeon.api.claiming import claimed
from convsurgeon.api.in_place import restore_in_place
from convsurgeon.api.indexes import check_names_stay, old_names, rename_in_index
from convsurgeon.api.paths import (
    MadeFolders,
    check_inside,
    check_no_output,
    check_outside,
    check_spared,
    named,
    names_file,
    side_files,
)
from convsurgeon.api.shards import copy_compared
from convsurgeon.errors import (
    ConvsurgeonError,
    NotEquivalentError,
    OutputError,
    RecipeError,
    UsageError,
)
from convsurgeon.limits import DEFAULT_MAX_HEADER, FORMAT_MAX_HEADER
from convsurgeon.plan import Recipe, recipe_of
from convsurgeon.proof import compare
from convsurgeon.results import RestoredFile, RestoreReport
from convsurgeon.rewrite import Output, undone
from convsurgeon.store import (
    INDEX_SUFFIX,
    FileDraft,
    FolderDraft,
    ReadOptions,
    SafetensorsFile,
    Source,
    checkpoint_paths,
    read_checkpoint,
    read_safetensors,
    read_shards,
    remove_stale,
    sidecar_of,
)


def restore(
    path: str | PathLike[str],
    out: str | PathLike[str] | None = None,
    *,
    force: bool = False,
    in_place: bool = False,
    max_header_bytes: int = DEFAULT_MAX_HEADER,
) -> RestoreReport:
    """Give back the file, or the folder, as it was before the first swap.

    Args:
        path: a file or a folder that `swap` wrote.
        out: by default the recorded name beside it; for a folder, its name without `.linear` or
            `.conv`.
        force: whether an existing output is replaced.
        in_place: whether the file itself gets its original header back, and no other byte changes;
            `path` may then also be an index.
        max_header_bytes: largest header to accept.

    Raises:
        RecipeError: CS081 where there is no recipe, CS082 where it does not fit the tensors.
        OutputError: CS070 where the output exists and holds something else; CS074, CS075, CS078 or
            CS079 where the file cannot be restored in place.
    """
    source = Path(path)
    if in_place:
        check_no_output(out, force=force)
        return _in_place(source, max_header_bytes)
    if os.path.isdir(source):  # noqa: PTH112 - unlike Path's, no error for a name that is too long
        return _folder(source, out, force=force, limit=max_header_bytes)
    return _file(source, out, force=force, limit=max_header_bytes)


def _file(
    source: Path, out: str | PathLike[str] | None, *, force: bool, limit: int
) -> RestoreReport:
    if source.name.endswith(INDEX_SUFFIX) and os.path.isfile(source):  # noqa: PTH113
        message = "an index is restored with its folder, or in place"
        raise UsageError("CS090", message, where=source, hint="name the folder, or add --in-place")
    file = read_safetensors(source, limit)
    recipe = _recipe(file)
    if recipe is None:
        raise _no_recipe(source)
    target = source.parent / recipe.original.name if out is None else Path(out)
    if out is not None and not names_file(out):
        target /= recipe.original.name
    if os.path.exists(target) and target.samefile(source):  # noqa: PTH110
        hint = "choose another name with -o, or add --in-place"
        raise OutputError("CS072", "the output is the source itself", where=target, hint=hint)
    name = claimed(target, force=force)
    with MadeFolders(target), name, FileDraft(target, force=force) as draft:
        output = _undone(file, recipe)
        with file.reader() as reader, draft.following(output.parts(reader), output.size) as written:
            _prove(written.file(), file)
        outcome = draft.publish()
    return RestoreReport((_row(file, target, outcome.value, recipe, draft.notes),))


def _no_recipe(where: Path) -> RecipeError:
    hint = "name the file or folder that convsurgeon swap wrote"
    return RecipeError("CS081", "there is no recipe", where=where, hint=hint)


def _folder(
    folder: Path, out: str | PathLike[str] | None, *, force: bool, limit: int
) -> RestoreReport:
    paths = [p for p in side_files(folder, recursive=True) if p.suffix == ".safetensors"]
    found = {p: (file, _recipe(file)) for p in paths for file in [read_safetensors(p, limit)]}
    if not any(recipe for _, recipe in found.values()):
        raise _no_recipe(folder)
    target = _folder_target(folder) if out is None else named(Path(out))
    check_outside(target, folder, "restored")
    check_spared(target, [folder, *found])
    indexes = dict(_renamed_indexes(folder, [file for file, _ in found.values()]))
    done: list[tuple[SafetensorsFile, Path, Recipe]] = []
    done_with = {sidecar_of(path) for path, (_, recipe) in found.items() if recipe}
    with MadeFolders(target), FolderDraft(target, force=force) as draft:
        for path in side_files(folder, recursive=True):
            name = path.relative_to(folder)
            if path in done_with:  # what it recorded is undone
                continue
            file, recipe = found.get(path, (None, None))
            if path in indexes:
                rename_in_index(draft, path, str(name), indexes[path])
                continue
            if file is None or recipe is None:
                check_inside(path, folder)
                copy_compared(draft, path, str(name))
                continue
            place = name.with_name(recipe.original.name)
            output = _undone(file, recipe)
            with file.reader() as reader:
                parts = output.parts(reader)
                with draft.following(str(place), parts, output.size) as written:
                    _prove(written.file(), file)
            done.append((file, target / place, recipe))
        outcome = draft.publish()
    rows = (_row(f, p, outcome.value, r, draft.notes) for f, p, r in done)
    return RestoreReport(tuple(rows))


def _renamed_indexes(
    folder: Path, files: Sequence[SafetensorsFile]
) -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield the indexes whose shards have tensors that a recipe has renamed."""
    if not old_names(file.header for file in files):
        return
    for path in side_files(folder, recursive=True):
        if path.name.endswith(INDEX_SUFFIX):
            shards = read_shards(path, FORMAT_MAX_HEADER)
            if names := old_names(shard.header for shard in shards):
                yield path, names


def _in_place(path: Path, limit: int) -> RestoreReport:
    rows: list[RestoredFile] = []
    for inner in checkpoint_paths(path):
        checkpoint = read_checkpoint(inner, ReadOptions(limit=limit))
        check_names_stay(checkpoint, old_names(s.header for s in checkpoint.sources))
        files = [s for s in checkpoint.sources if isinstance(s, SafetensorsFile)]
        work = [(file, recipe) for file in files if (recipe := _recipe(file))]
        for file in files:  # what an earlier run could not remove, also where all is restored
            remove_stale(file.path)
        warning = restore_in_place([(f, _undone(f, r)) for f, r in work], _prove) if work else ""
        done = (_row(file, file.path, "written", recipe) for file, recipe in work)
        rows += (replace(row, in_place=True, warning=warning) for row in done)
    if not rows:
        raise _no_recipe(path)
    return RestoreReport(tuple(rows))


def _folder_target(folder: Path) -> Path:
    path = named(folder).absolute()
    name = path.name.removesuffix(".linear").removesuffix(".conv")
    return path.with_name(name if name != path.name else f"{name}.restored")


def _recipe(file: SafetensorsFile) -> Recipe | None:
    try:
        return recipe_of(file.header)
    except ConvsurgeonError as error:
        raise error.at(file.path) from None


def _undone(file: SafetensorsFile, recipe: Recipe) -> Output:
    try:
        return undone(file.header, recipe)
    except ConvsurgeonError as error:
        raise error.at(file.path) from None


def _prove(written: Source, file: Source) -> None:
    """Hold what was written against the swapped file: as `swap` proves it, the other way round.

    Every byte that did not move is compared, and the recorded digests have to hold.
    """
    try:
        verdict = compare(written, file, function=False)
    except ConvsurgeonError as error:
        raise error.at(file.path) from None
    changed = [layer.module for layer in verdict.layers if not layer.bits.equal]
    if changed:
        message = f"the weight of {changed[0]} was changed since the swap"
        hint = "the original cannot be restored from this file"
        raise RecipeError("CS082", message, where=file.path, hint=hint)
    if not verdict.equivalent:
        message = f"the restored file is not the original: {'; '.join(verdict.complaints[:3])}"
        hint = "nothing was published; please report this"
        raise NotEquivalentError("CS083", message, where=file.path, hint=hint)


def _row(
    file: SafetensorsFile, target: Path, outcome: str, recipe: Recipe, notes: Sequence[str] = ()
) -> RestoredFile:
    layers = tuple(dict.fromkeys(step.module for step in recipe.steps))
    dropped = recipe.original.dropped
    held = [f"the PyTorch file also held {', '.join(dropped)}"] if dropped else []
    digest, note = recipe.original.header_sha256, "; ".join((*notes, *held))
    return RestoredFile(str(file.path), str(target), outcome, layers, digest, note)
