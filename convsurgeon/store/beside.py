"""A safetensors file with what lies beside it: a journal to act on first, a recipe to add."""

from __future__ import annotations

from pathlib import Path

from convsurgeon.errors import RecipeError
from convsurgeon.limits import DEFAULT_MAX_HEADER
from convsurgeon.store.held import busy
from convsurgeon.store.journal import journal_of
from convsurgeon.store.opening import is_there, itself
from convsurgeon.store.recovery import recover
from convsurgeon.store.safetensors_file import SafetensorsFile, read_alone
from convsurgeon.store.sidecar import with_sidecar


def read_safetensors(path: Path, limit: int = DEFAULT_MAX_HEADER) -> SafetensorsFile:
    """Read and check the header of a safetensors file, and its recipe where that is a sidecar.

    What an interrupted run left beside the file is finished first; that writes to the header.

    Args:
        path: a regular file, or a symbolic link to one.
        limit: largest header, or sidecar, to accept, in bytes.

    Raises:
        UnreadableError: CS030 to CS038, with what the file really is.
        HeaderError: CS040, CS041.
        RecipeError: CS076 for the sidecar of another file, or a damaged one.
        OutputError: CS077 where an interrupted run cannot be undone, CS078 where one is at work.
    """
    real = itself(path)
    recover(real)
    file = read_alone(path, limit)
    try:
        found = with_sidecar(file, limit)
    except RecipeError:
        _check_unchanged(file)  # then the sidecar is newer than what was read
        raise
    if is_there(journal_of(real)):  # begun since: what was read may be half of each
        raise busy(path)
    return found


def _check_unchanged(file: SafetensorsFile) -> None:
    with file.reader():
        pass
