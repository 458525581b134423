"""`--in-place`: new headers over old ones, in one transaction for each checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

from convsurgeon.api.shards import rewritten_files, untouched_shards
from convsurgeon.api.work import TOOL, Worker, quiet
from convsurgeon.errors import ConvsurgeonError, NotSyncedError
from convsurgeon.limits import FORMAT_MAX_HEADER
from convsurgeon.plan import FilePlan
from convsurgeon.results import InPlace, SwappedFile
from convsurgeon.rewrite import NewHeader, Output, swapped_header, undone_header
from convsurgeon.rewrite.in_place import check_header_only
from convsurgeon.store import (
    Checkpoint,
    Held,
    Journal,
    Member,
    Reheaded,
    SafetensorsFile,
    Sidecar,
    Source,
    State,
    check_own,
    commit,
    held,
    read_alone,
    sidecar_bytes,
    sidecar_of,
    with_sidecar,
)

Prove = Callable[[Source, Source], object]
"""Raises unless what a file becomes is right, given what it is."""


@dataclass(frozen=True, slots=True)
class Change:
    """One file: what it is, and what it is to become.

    Attributes:
        source: as it was read.
        prefix: its length and header as they stand on disk.
        new: what takes their place.
    """

    source: SafetensorsFile
    prefix: bytes
    new: NewHeader

    def before(self, file: SafetensorsFile) -> Reheaded:
        """Return what the file was, with the data that `file` has now."""
        return Reheaded(file, self.prefix, self.source.header)

    def after(self) -> Reheaded:
        """Return what the file is to become, with the data that it has."""
        return Reheaded.of(self.source, self.new.prefix, self.new.recipe)

    def member(self) -> Member:
        """Return what the journal records of it."""
        place, recipe = self.source.sidecar, self.new.recipe
        was = None if place is None else sidecar_bytes(place, FORMAT_MAX_HEADER)
        size = self.source.size
        sidecar = recipe and Sidecar.for_file(self.new.prefix, size, recipe)
        becomes = sidecar.to_bytes() if sidecar else None
        old, new = State(self.prefix, was), State(self.new.prefix, becomes)
        return Member(self.source.path.name, self.source.stamp.inode, size, old, new)


def swap_in_place(
    worker: Worker, checkpoint: Checkpoint, plan: FilePlan, *, dry_run: bool
) -> SwappedFile:
    """Rewrite the headers of a checkpoint where it lies.

    Only the shards that hold a rewritten tensor are touched, all of them or none. The proofs are
    run on the headers that are about to be written; the bits again on what stands there afterwards.

    Args:
        worker: knows which proofs are asked for.
        checkpoint: a safetensors file, or an index with its shards.
        plan: its own, with something to rewrite.
        dry_run: whether to find out only whether it is possible.

    Raises:
        OutputError: CS074, CS075, CS078 or CS079 where it is not; CS071 and CS077 see `commit`.
        NotEquivalentError: CS083; the file is as before.
    """
    start = perf_counter()
    work = rewritten_files(checkpoint, plan)
    for source, layers in work:
        check_header_only(source, layers)
        check_own(source.path)
    verdicts, warning = [], ""
    with held([source.path for source, _ in work]) as files:
        changes = []
        for source, layers in work:
            with source.reader() as reader:
                header = swapped_header(source, reader, layers, TOOL)
                changes.append(Change(_file(source), reader.prefix(), header))
        if not dry_run:
            verdicts = [worker.prove(c.source, c.after(), c.source.path.name) for c in changes]
            verdicts += untouched_shards(checkpoint, plan)
            bits = replace(worker, function=False, exhaustive=False, progress=quiet)
            warning = rewrite(changes, files, lambda old, new: bits.prove(old, new, new.path.name))
    name = str(checkpoint.path)
    outcome, seconds = "planned" if dry_run else "written", perf_counter() - start
    found, done = tuple(verdicts), _account(changes)
    return SwappedFile(plan, name, name, outcome, seconds, found, warning, in_place=done)


def restore_in_place(work: Sequence[tuple[SafetensorsFile, Output]], prove: Prove) -> str:
    """Give files of one checkpoint their original headers back, all or none.

    Args:
        work: each file, with the original that `undone` makes of it.
        prove: is given the original and the swapped file.

    Returns:
        What the user has to know although it is done; mostly nothing.

    Raises:
        OutputError: as `swap_in_place`.
        ConvsurgeonError: whatever `prove` raises; the files are as before.
    """
    for file, _ in work:
        check_own(file.path)
    with held([file.path for file, _ in work]) as files:
        changes = []
        for file, output in work:
            with file.reader() as reader:
                changes.append(Change(file, reader.prefix(), undone_header(file, reader, output)))
        for change in changes:
            prove(change.after(), change.source)
        return rewrite(changes, files, lambda old, new: prove(new, old))


def _file(source: Source) -> SafetensorsFile:
    if not isinstance(source, SafetensorsFile):
        raise TypeError(f"{source.path} is no safetensors file")
    return source


def _account(changes: Sequence[Change]) -> InPlace:
    beside = (str(sidecar_of(c.source.path)) for c in changes if c.new.recipe is not None)
    return InPlace(sum(len(change.prefix) for change in changes), tuple(beside))


def rewrite(changes: Sequence[Change], files: Held, prove: Prove) -> str:
    """Write the new headers of held files, all or none, and prove what stands there then.

    Args:
        changes: in the order in which they are written; all in one folder.
        files: the same files, held since before their headers were read.
        prove: is given each file as it was and as it stands on disk.

    Returns:
        What the user has to know although it is done; mostly nothing.

    Raises:
        ConvsurgeonError: see `commit`; and whatever `prove` raises, after it is undone.
    """

    def check() -> None:
        for change in changes:
            file = read_alone(change.source.path, FORMAT_MAX_HEADER)
            due = change.new.recipe is not None
            prove(change.before(file), with_sidecar(file, FORMAT_MAX_HEADER, due=due))

    for change in changes:
        check_own(change.source.path)  # the proofs may have taken minutes
        with change.source.reader():
            pass  # raises where somebody has written to it
    journal = Journal(changes[0].source.path.name, tuple(change.member() for change in changes))
    try:
        commit(journal, files, check)
    except NotSyncedError as error:
        return str(error)
    except ConvsurgeonError as error:
        raise error.at(changes[0].source.path) from None
    return ""
