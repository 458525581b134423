"""The files of a checkpoint: which are rewritten, and what becomes of all others."""

from __future__ import annotations

from pathlib import Path

from convsurgeon.errors import NotEquivalentError
from convsurgeon.plan import FilePlan, LayerPlan
from convsurgeon.proof import FileVerdict
from convsurgeon.store import Checkpoint, FolderDraft, Source, begins_alike, whole_file


def copy_compared(draft: FolderDraft, file: Path, name: str) -> None:
    """Copy a file that does not change, and compare: storage can lie as much as code can."""
    with draft.following(name, whole_file(file), file.stat().st_size) as written:
        equal = begins_alike(file, written.path, written.ready)
    if not equal:
        message = "the copy is not equal to its source"
        raise NotEquivalentError("CS083", message, where=name, hint="nothing was published")


def untouched_shards(checkpoint: Checkpoint, plan: FilePlan) -> list[FileVerdict]:
    """Return the verdicts on shards that stay as they are: `copy_compared` compares them whole."""
    rewritten = {layer.file for layer in plan.rewrites}
    copied = (s for s in checkpoint.sources if s.path.name not in rewritten)
    return [FileVerdict(s.path.name, s.path.name, (), len(s.header.tensors)) for s in copied]


def rewritten_files(checkpoint: Checkpoint, plan: FilePlan) -> list[tuple[Source, list[LayerPlan]]]:
    """Return the files with a layer to rewrite; all others are copied like any side file."""
    layers: dict[str, list[LayerPlan]] = {}
    for layer in plan.rewrites:
        layers.setdefault(layer.file, []).append(layer)
    return [(s, layers[s.path.name]) for s in checkpoint.sources if s.path.name in layers]
