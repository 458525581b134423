"""Indexes of shards whose tensors get other names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from convsurgeon.errors import NotEquivalentError, OutputError
from convsurgeon.geometry import LINEAR
from convsurgeon.header import Header
from convsurgeon.plan import FilePlan, first_names, recipe_of
from convsurgeon.store import Checkpoint, FolderDraft, renamed_index
from convsurgeon.tree import renamed_layer


def new_names(plan: FilePlan) -> dict[str, str]:
    """Return the names that a plan gives, of weights and biases, whether there is a bias or not."""
    found: dict[str, str] = {}
    for layer in plan.rewrites:
        if layer.rewrite and layer.rewrite.child:
            found |= renamed_layer(layer.key, inwards=layer.form != LINEAR)
    return found


def old_names(headers: Iterable[Header]) -> dict[str, str]:
    """Return the names that recipes have taken from tensors, by the present ones."""
    found: dict[str, str] = {}
    for header in headers:
        recipe = recipe_of(header)
        names = first_names(recipe.steps) if recipe else {}
        found |= {now: first for now, first in names.items() if now in header.by_name}
    return found


def check_names_stay(checkpoint: Checkpoint, names: Mapping[str, str]) -> None:
    """Refuse to rename tensors of shards in place: their index would have to change with them.

    Raises:
        OutputError: CS075.
    """
    if checkpoint.sharded and names:
        message = "not possible in place: the index would have to name the tensors anew"
        hint = "write a new folder instead: leave --in-place away"
        raise OutputError("CS075", message, where=checkpoint.path, hint=hint)


def rename_in_index(draft: FolderDraft, index: Path, name: str, names: Mapping[str, str]) -> None:
    """Write an index whose tensors have new names, and see that it can be given back.

    Raises:
        ShardError: CS045 for an index of which that is not so.
        NotEquivalentError: CS083 where it is not what was read.
    """
    written = draft.write(name, [renamed_index(index, names)])
    if renamed_index(written, {new: old for old, new in names.items()}) != index.read_bytes():
        message = "the index cannot be given back as it is"
        raise NotEquivalentError("CS083", message, where=name, hint="nothing was published")
