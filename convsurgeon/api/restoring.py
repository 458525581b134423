"""`restore`: undo, byte for byte."""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path

from convsurgeon.api.paths import MadeFolders, side_files
from convsurgeon.api.work import copy_compared
from convsurgeon.errors import ConvsurgeonError, NotEquivalentError, OutputError, RecipeError
from convsurgeon.limits import DEFAULT_MAX_HEADER, FORMAT_MAX_HEADER
from convsurgeon.plan import Recipe, recipe_of
from convsurgeon.proof import compare
from convsurgeon.results import RestoredFile, RestoreReport
from convsurgeon.rewrite import Output, undone
from convsurgeon.store import FileDraft, FolderDraft, SafetensorsFile, read_safetensors


def restore(
    path: str | PathLike[str],
    out: str | PathLike[str] | None = None,
    *,
    force: bool = False,
    max_header_bytes: int = DEFAULT_MAX_HEADER,
) -> RestoreReport:
    """Give back the file, or the folder, as it was before the first swap.

    Args:
        path: a file or a folder that `swap` wrote.
        out: by default the recorded name beside it; for a folder, its name without `.linear` or
            `.conv`.
        force: whether an existing output is replaced.
        max_header_bytes: largest header to accept.

    Raises:
        RecipeError: CS081 where there is no recipe, CS082 where it does not fit the tensors.
        OutputError: CS070 where the output exists and holds something else.
    """
    source = Path(path)
    if os.path.isdir(source):  # noqa: PTH112 - unlike Path's, no error for a name that is too long
        return _folder(source, out, force=force, limit=max_header_bytes)
    file = read_safetensors(source, max_header_bytes)
    recipe = _recipe(file)
    if recipe is None:
        raise _no_recipe(source)
    target = source.parent / recipe.original.name if out is None else Path(out)
    if out is not None and os.path.isdir(target):  # noqa: PTH112
        target /= recipe.original.name
    if os.path.exists(target) and target.samefile(source):  # noqa: PTH110
        hint = "choose another name with -o"
        raise OutputError("CS072", "the output is the source itself", where=target, hint=hint)
    with MadeFolders(target), FileDraft(target, force=force) as draft:
        with file.reader() as reader:
            draft.write(_undone(file, recipe).parts(reader))
        _prove(draft.path, file)
        outcome = draft.publish()
    return RestoreReport((_row(file, target, outcome.value, recipe),))


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
    target = _folder_target(folder) if out is None else Path(out)
    if target.absolute().is_relative_to(folder.absolute()):
        raise OutputError("CS072", "the output lies in the folder that is restored", where=target)
    done: list[tuple[SafetensorsFile, Path, Recipe]] = []
    with MadeFolders(target), FolderDraft(target, force=force) as draft:
        for path in side_files(folder, recursive=True):
            name = path.relative_to(folder)
            file, recipe = found.get(path, (None, None))
            if file is None or recipe is None:
                copy_compared(draft, path, str(name))
                continue
            place = name.with_name(recipe.original.name)
            with file.reader() as reader:
                written = draft.write(str(place), _undone(file, recipe).parts(reader))
            _prove(written, file)
            done.append((file, target / place, recipe))
        outcome = draft.publish()
    return RestoreReport(tuple(_row(f, p, outcome.value, r) for f, p, r in done))


def _folder_target(folder: Path) -> Path:
    path = folder.absolute()
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


def _prove(written: Path, file: SafetensorsFile) -> None:
    """Hold what was written against the swapped file: as `swap` proves it, the other way round.

    Every byte that did not move is compared, and the recorded digests have to hold.
    """
    # The original's header may be longer than what swap made of it.
    try:
        verdict = compare(read_safetensors(written, FORMAT_MAX_HEADER), file, function=False)
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


def _row(file: SafetensorsFile, target: Path, outcome: str, recipe: Recipe) -> RestoredFile:
    layers = tuple(dict.fromkeys(step.module for step in recipe.steps))
    dropped = recipe.original.dropped
    note = f"the PyTorch file also held {', '.join(dropped)}" if dropped else ""
    digest = recipe.original.header_sha256
    return RestoredFile(str(file.path), str(target), outcome, layers, digest, note)
