"""The name of an output, and what an earlier file of that name has left beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convsurgeon.errors import OutputError, RecipeError
from convsurgeon.limits import FORMAT_MAX_HEADER
from convsurgeon.store import journal_of, read_alone, recover, sidecar_of, with_sidecar


@contextmanager
def claimed(target: Path, *, force: bool) -> Iterator[None]:
    """Have a new file written under a name, without what belongs to another one of that name.

    A sidecar or journal beside the new file would be taken for its own, and make it unreadable.

    Args:
        target: the output, a safetensors file.
        force: whether an existing one is replaced, and with it what lies beside it.

    Raises:
        OutputError: CS070 where something lies there although the file is gone: it may be the only
            recipe of a file that was moved. CS077, CS078 where an interrupted run cannot be undone.
    """
    exists = os.path.lexists(target)
    if exists and not target.is_symlink():
        recover(target)
    left = [path for path in (sidecar_of(target), journal_of(target)) if os.path.lexists(path)]
    if left and not exists and not force:
        message = f"{left[0].name} lies there, which belongs to another file of this name"
        hint = "move it to its file, choose another name, or add --force"
        raise OutputError("CS070", message, where=target, hint=hint)
    yield
    for path in left:
        if path == journal_of(target) or not _is_right(target):
            _remove(path)


def _is_right(target: Path) -> bool:
    """Tell whether the sidecar belongs to the file: it does where the very bytes were there."""
    try:
        with_sidecar(read_alone(target, FORMAT_MAX_HEADER), FORMAT_MAX_HEADER)
    except RecipeError:
        return False
    return True


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        message = f"the output is in place, but this belongs to another file: {error.strerror}"
        raise OutputError("CS071", message, where=path, hint="remove it") from None
