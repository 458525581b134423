"""Carry plans out: write under a temporary name, prove, publish."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from convsurgeon.api.indexes import new_names, rename_in_index
from convsurgeon.api.paths import check_inside, side_files
from convsurgeon.api.shards import copy_compared, rewritten_files, untouched_shards
from convsurgeon.errors import NotEquivalentError, NotSyncedError
from convsurgeon.plan import FilePlan
from convsurgeon.proof import FileVerdict, compare
from convsurgeon.results import SwappedFile
from convsurgeon.rewrite import swapped
from convsurgeon.store import (
    Checkpoint,
    FileDraft,
    FolderDraft,
    Following,
    Outcome,
    Source,
    follows,
    is_folder,
    sidecar_of,
)
from convsurgeon.version import __version__

Progress = Callable[[str, int, int], None]
TOOL = f"convsurgeon {__version__}"


def quiet(_what: str, _done: int, _total: int) -> None:
    """Tell nobody about progress."""


@dataclass(frozen=True, slots=True)
class Worker:
    """Carries plans out.

    Attributes:
        force: whether existing outputs are replaced.
        function: whether the proofs that need torch are run.
        exhaustive: whether they probe every place of every layer.
        link: whether files of tensors that do not change get one more name instead of a copy.
        progress: told what is being worked on, how many bytes are done, and of how many.
    """

    force: bool
    function: bool
    exhaustive: bool
    link: bool
    progress: Progress

    def file(self, checkpoint: Checkpoint, plan: FilePlan, target: Path) -> SwappedFile:
        """Rewrite a single file.

        Raises:
            NotEquivalentError: CS083; nothing was published.
            RefusedError: where it cannot be read or written.
        """
        start = perf_counter()
        (source,) = checkpoint.sources
        warning = ""
        with FileDraft(target, force=self.force) as draft:
            with source.reader() as reader:
                output = swapped(source, reader, plan.rewrites, TOOL)
                counter = _Counter(self.progress, f"write {target.name}", output.size)
                parts = output.parts(reader)
                with draft.following(parts, output.size, counter) as written:
                    verdict = self._prove_new(source, written, target.name)
            try:
                outcome = draft.publish()
            except NotSyncedError as error:
                outcome, warning = Outcome.WRITTEN, str(error)
        seconds = perf_counter() - start
        name, plan = str(target), _noted(plan, draft.notes)
        return SwappedFile(plan, name, name, outcome.value, seconds, (verdict,), warning)

    def folder(
        self,
        path: Path,
        work: list[tuple[Checkpoint, FilePlan]],
        target: Path,
        *,
        recursive: bool,
    ) -> list[SwappedFile]:
        """Rewrite the checkpoints of a folder, or of an index, into a new folder.

        Every other file is copied; the folder appears whole, by one rename.

        Raises:
            NotEquivalentError: CS083; nothing was published.
            RefusedError: where something cannot be read or written.
        """
        start = perf_counter()
        root = path if is_folder(path) else path.parent
        warning = ""
        with FolderDraft(target, force=self.force) as draft:
            verdicts = [self._into(draft, root, checkpoint, plan) for checkpoint, plan in work]
            linked = self._copy_rest(draft, path, work, recursive=recursive)
            try:
                outcome = draft.publish()
            except NotSyncedError as error:
                outcome, warning = Outcome.WRITTEN, str(error)
        seconds = perf_counter() - start
        rows = []
        for (checkpoint, plan), found in zip(work, verdicts, strict=True):
            place = target / _output_name(checkpoint, plan).relative_to(root)
            what = outcome.value if plan.rewrites else "skipped"
            new = linked if outcome is Outcome.WRITTEN else ()
            names = tuple(s.path.name for s in checkpoint.sources if s.path in new)
            noted = _noted(plan, draft.notes)
            row = SwappedFile(noted, str(place), str(target), what, seconds, found, warning, names)
            rows.append(row)
        return rows

    def _copy_rest(
        self,
        draft: FolderDraft,
        path: Path,
        work: list[tuple[Checkpoint, FilePlan]],
        *,
        recursive: bool,
    ) -> Container[Path]:
        """Copy, or link, every file that is not rewritten; return those that were linked."""
        root = path if is_folder(path) else path.parent
        rewritten = [source for one in work for source, _ in rewritten_files(*one)]
        # The recipe of a sidecar stands in the new file's header.
        done = {p for source in rewritten for p in (source.path, sidecar_of(source.path))}
        linkable = self._linkable(work)
        names = {index.path: new_names(plan) for index, plan in work if index.sharded}
        for file in self._copied(path, work, recursive=recursive):
            name = str(file.relative_to(root))
            if file in done:
                continue
            if named := names.get(file):
                rename_in_index(draft, file, name, named)
                continue
            check_inside(file, root)
            if file in linkable:
                draft.link(name, linkable[file])
            else:
                copy_compared(draft, file, name)
        return linkable

    def _linkable(self, work: list[tuple[Checkpoint, FilePlan]]) -> dict[Path, Source]:
        """Return the files that get one more name: of tensors, and with none to rewrite.

        All others are copied: whoever edits the new folder's config.json edits that one alone.
        """
        if not self.link:
            return {}
        done = {s.path for checkpoint, plan in work for s, _ in rewritten_files(checkpoint, plan)}
        sources = (source for checkpoint, _ in work for source in checkpoint.sources)
        return {source.path: source for source in sources if source.path not in done}

    def _into(
        self, draft: FolderDraft, root: Path, checkpoint: Checkpoint, plan: FilePlan
    ) -> tuple[FileVerdict, ...]:
        verdicts = []
        for source, layers in rewritten_files(checkpoint, plan):
            with source.reader() as reader:
                output = swapped(source, reader, layers, TOOL)
                name = str(source.path.relative_to(root).with_suffix(".safetensors"))
                counter = _Counter(self.progress, f"write {name}", output.size)
                parts = output.parts(reader)
                with draft.following(name, parts, output.size, counter) as written:
                    verdicts.append(self._prove_new(source, written, name))
        if verdicts:
            verdicts += untouched_shards(checkpoint, plan)
        return tuple(verdicts)

    def _copied(
        self, path: Path, work: list[tuple[Checkpoint, FilePlan]], *, recursive: bool
    ) -> Iterable[Path]:
        if is_folder(path):
            return side_files(path, recursive=recursive)
        shards = [source.path for source in work[0][0].sources]
        return [path, *shards, *(p for p in map(sidecar_of, shards) if p.is_file())]

    def _prove_new(self, source: Source, written: Following, name: str) -> FileVerdict:
        what = "write and verify" if follows(written.size) else "verify"
        return self.prove(source, written.file(), name, what)

    def prove(
        self, source: Source, written: Source, name: str, what: str = "verify"
    ) -> FileVerdict:
        """Prove that what was written, or is about to be, is the source with its recipe done.

        Args:
            source: the file before.
            written: the file after.
            name: that it will have.
            what: is done, for the progress bar.

        Raises:
            NotEquivalentError: CS083.
            UnreadableError: CS038 where the source changed meanwhile.
        """
        total = source.header.data_bytes
        counter = _Counter(self.progress, f"{what} {name}", total)
        function, exhaustive = self.function, self.exhaustive
        verdict = compare(
            source, written, function=function, exhaustive=exhaustive, progress=counter
        )
        if not verdict.equivalent:
            with source.reader():
                pass  # who wrote to it meanwhile is told so, and not that we failed
            text = "; ".join(verdict.complaints[:3])
            message = f"the rewritten file is not equivalent: {text}"
            hint = "nothing was published; please report this"
            raise NotEquivalentError("CS083", message, where=name, hint=hint)
        return verdict


def _output_name(checkpoint: Checkpoint, plan: FilePlan) -> Path:
    if checkpoint.sharded or not plan.rewrites:
        return checkpoint.path
    return checkpoint.path.with_suffix(".safetensors")


def _noted(plan: FilePlan, notes: tuple[str, ...]) -> FilePlan:
    """Return the plan with what was found out while it was carried out."""
    return replace(plan, notes=(*plan.notes, *notes))


class _Counter:
    """Adds up bytes and tells the progress callback."""

    def __init__(self, progress: Progress, what: str, total: int) -> None:
        self.progress, self.what, self.total = progress, what, total
        self.done = 0

    def __call__(self, more: int) -> None:
        self.done += more
        self.progress(self.what, self.done, self.total)
