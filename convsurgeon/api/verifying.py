"""`verify`: prove, or refute, that two checkpoints are equivalent."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Unpack

from convsurgeon.api.choices import Choices, Request
from convsurgeon.api.foreign import assumed_steps
from convsurgeon.api.planning import Planner
from convsurgeon.errors import ConvsurgeonError, UnreadableError
from convsurgeon.plan import METADATA_KEY
from convsurgeon.proof import FileVerdict, Verdict, check_recorded, compare
from convsurgeon.store import (
    Checkpoint,
    Source,
    checkpoint_paths,
    read_checkpoint,
)
from convsurgeon.untrusted import safe


def verify(
    original: str | PathLike[str],
    swapped: str | PathLike[str] | None = None,
    *,
    function: bool = True,
    **choices: Unpack[Choices],
) -> Verdict:
    """Prove or refute that two checkpoints are equivalent.

    Args:
        original: a file, an index or a folder. If it stands alone, it is the swapped one, and is
            held against the digests in its own recipe: the scope of the verdict is `rewritten`.
        swapped: what `swap` made of it.
        function: whether both forms of each layer are run too; that needs torch.
        **choices: see `Choices`; evidence is used where the swapped file has no recipe, because
            another tool wrote it.

    Returns:
        The verdict; ask it for `equivalent`.

    Raises:
        RefusedError: where one of them cannot be read, or there is no recipe to go by.
    """
    choices["to"] = "conv"  # allows every option; the direction is seen from each weight
    planner = Planner(Request.of(choices))
    settings = planner.request.settings
    notes = (settings.note,) if settings else ()
    first = _read(Path(original), planner)
    if swapped is None:
        return Verdict(tuple(v for checkpoint in first for v in _alone(checkpoint)), notes)
    second = _read(Path(swapped), planner)
    if len(first) != len(second):
        message = f"{len(first)} checkpoints against {len(second)}"
        raise UnreadableError("CS046", message, where=f"{original}, {swapped}")
    couples = zip(first, second, strict=True)
    return Verdict(tuple(v for a, b in couples for v in _both(planner, a, b, function)), notes)


def _read(path: Path, planner: Planner) -> list[Checkpoint]:
    return [read_checkpoint(inner, planner.request.read) for inner in checkpoint_paths(path)]


def _both(
    planner: Planner, before: Checkpoint, after: Checkpoint, function: bool
) -> Iterator[FileVerdict]:
    def compared(source: Source, partner: Source) -> FileVerdict:
        try:
            assumed = assumed_steps(planner, before, source, partner)
            return compare(source, partner, assumed=assumed, function=function)
        except ConvsurgeonError as error:
            raise error.at(partner.path) from None

    if not before.sharded and not after.sharded:
        yield compared(before.sources[0], after.sources[0])
        return
    old, new = ({s.path.name: s for s in checkpoint.sources} for checkpoint in (before, after))
    for name in sorted(old.keys() | new.keys()):
        if name in old and name in new:
            yield compared(old[name], new[name])
        else:
            where = "the original" if name in new else "the swapped checkpoint"
            yield FileVerdict(name, name, (), 0, (f"shard {safe(name)} is not in {where}",))


def _alone(checkpoint: Checkpoint) -> Iterator[FileVerdict]:
    with_recipe = [s for s in checkpoint.sources if METADATA_KEY in s.header.metadata_map]
    for source in with_recipe or checkpoint.sources[:1]:
        try:
            yield check_recorded(source)
        except ConvsurgeonError as error:
            raise error.at(source.path) from None
