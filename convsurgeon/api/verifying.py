"""`verify`: prove, or refute, that two checkpoints are equivalent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Unpack

from convsurgeon.api.choices import Request
from convsurgeon.api.foreign import assumed_steps
from convsurgeon.api.planning import Planner
from convsurgeon.api.proving import Proving, VerifyChoices, evidence_of
from convsurgeon.errors import ConvsurgeonError, UnreadableError
from convsurgeon.plan import METADATA_KEY
from convsurgeon.proof import FileVerdict, ModelVerdict, Verdict, check_recorded, compare
from convsurgeon.proof.digests import digests_of
from convsurgeon.proof.environment import environment
from convsurgeon.store import Checkpoint, Source, checkpoint_paths, read_checkpoint
from convsurgeon.untrusted import safe


def verify(
    original: str | PathLike[str],
    swapped: str | PathLike[str] | None = None,
    *,
    function: bool = True,
    **choices: Unpack[VerifyChoices],
) -> Verdict:
    """Prove or refute that two checkpoints are equivalent.

    Args:
        original: a file, an index or a folder. If it stands alone, it is the swapped one, and is
            held against the digests in its own recipe: the scope of the verdict is `rewritten`.
        swapped: what `swap` made of it.
        function: whether both forms of each layer are run too; that needs torch.
        **choices: see `VerifyChoices`; evidence is used where the swapped file has no recipe,
            because another tool wrote it.

    Returns:
        The verdict; ask it for `equivalent`, or have `require()` raise.

    Raises:
        UsageError: for choices that cannot be understood, or do not go together.
        RefusedError: where one of them cannot be read, or there is no recipe to go by.
        ModelError: CS062 where a whole model is asked for and cannot be built or run.
    """
    choices["to"] = "conv"  # allows every option; the direction is seen from each weight
    request = Request.of(evidence_of(choices))
    proving = Proving.of(choices, request, function=function, alone=swapped is None)
    planner = Planner(request)
    call = _Call(planner, proving, Path(original), None if swapped is None else Path(swapped))
    settings = planner.request.settings
    torch = swapped is not None and (function or proving.trial is not None)
    files = tuple(call.files())
    return Verdict(
        files=files,
        notes=(settings.note,) if settings else (),
        models=tuple(call.models(files)),
        asked={"original": str(original), "swapped": swapped and str(swapped), **proving.asked},
        environment=environment(torch=torch) if proving.kept else None,
    )


@dataclass(frozen=True, slots=True)
class _Call:
    planner: Planner
    proving: Proving
    original: Path
    swapped: Path | None

    def files(self) -> Iterator[FileVerdict]:
        first = self._read(self.original)
        if self.swapped is None:
            yield from (v for checkpoint in first for v in self._alone(checkpoint))
            return
        second = self._read(self.swapped)
        if len(first) != len(second):
            message = f"{len(first)} checkpoints against {len(second)}"
            where = f"{self.original}, {self.swapped}"
            raise UnreadableError("CS046", message, where=where)
        for before, after in zip(first, second, strict=True):
            yield from self._both(before, after)

    def models(self, files: Sequence[FileVerdict]) -> Iterator[ModelVerdict]:
        trial = self.proving.trial
        if trial is not None and self.swapped is not None:
            from convsurgeon.api.whole import try_models

            layers = [layer for file in files for layer in file.layers]
            yield try_models(self.original, self.swapped, trial, layers)

    def _read(self, path: Path) -> list[Checkpoint]:
        return [read_checkpoint(p, self.planner.request.read) for p in checkpoint_paths(path)]

    def _both(self, before: Checkpoint, after: Checkpoint) -> Iterator[FileVerdict]:
        if not before.sharded and not after.sharded:
            yield self._compared(before, before.sources[0], after.sources[0])
            return
        _check_spread(before, after)
        old, new = ({s.path.name: s for s in checkpoint.sources} for checkpoint in (before, after))
        for name in sorted(old.keys() | new.keys()):
            if name in old and name in new:
                yield self._compared(before, old[name], new[name])
            else:
                where = "the original" if name in new else "the swapped checkpoint"
                yield FileVerdict(name, name, (), 0, (f"shard {safe(name)} is not in {where}",))

    def _compared(self, before: Checkpoint, source: Source, partner: Source) -> FileVerdict:
        function, exhaustive = self.proving.function, self.proving.exhaustive
        try:
            assumed = assumed_steps(self.planner, before, source, partner)
            found = compare(
                source, partner, assumed=assumed, function=function, exhaustive=exhaustive
            )
        except ConvsurgeonError as error:
            raise error.at(partner.path) from None
        return self._digested(found, source, partner)

    def _alone(self, checkpoint: Checkpoint) -> Iterator[FileVerdict]:
        with_recipe = [s for s in checkpoint.sources if METADATA_KEY in s.header.metadata_map]
        for source in with_recipe or checkpoint.sources[:1]:
            try:
                found = check_recorded(source)
            except ConvsurgeonError as error:
                raise error.at(source.path) from None
            yield self._digested(found, source)

    def _digested(self, found: FileVerdict, *sources: Source) -> FileVerdict:
        if not self.proving.kept:
            return found
        return replace(found, digests=digests_of(sources))


def _check_spread(before: Checkpoint, after: Checkpoint) -> None:
    """Refuse the same tensors in other shards: they are compared shard by shard.

    Raises:
        UnreadableError: CS046; "not equivalent" could be wrong.
    """
    old, new = (
        {tensor.name: s.path.name for s in checkpoint.sources for tensor in s.header.tensors}
        for checkpoint in (before, after)
    )
    if old.keys() == new.keys() and old != new:
        moved = next(name for name in old if old[name] != new[name])
        message = f"{safe(moved)} stands in {safe(old[moved])}, and here in {safe(new[moved])}"
        hint = "save both with the same shards, or both as one file"
        raise UnreadableError("CS046", message, where=after.path, hint=hint)
