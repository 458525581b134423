"""The files of a case, damaged in every way, and what the proofs say."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import convsurgeon as cs
from mutation import elements, folders
from mutation.cases import LAYOUTS, Case, case, original, swapped
from mutation.content import RECIPE, pack, unpack
from mutation.judged import Judged, ask, ask_alone
from mutation.kind import Files, Subject
from mutation.mutants import Mutant, damaged, mutants
from mutation.oracle import Finding, Truth, find, find_in_folder

_METHODS = {1: "1", 2: "1x1", 3: "1x1x1"}
WITHOUT_RECORD = "without a record: "
"""In front of the kinds that were done to a file that another tool could have written."""
_FOREIGN = 6
"""Mutants of each case that are asked about once more without their record."""


@dataclass(frozen=True)
class Prepared:
    """A true swap on disk.

    Attributes:
        subject: its contents.
        before: the original.
        after: the swapped file.
    """

    subject: Subject
    before: Path
    after: Path


def prepare(folder: Path, of: Case) -> Prepared:
    """Write an original and swap it.

    Raises:
        ValueError: where the swapped file is not what numpy makes of the original.
    """
    before, after = folder / "original.safetensors", folder / "swapped.safetensors"
    content = original(of)
    before.write_bytes(pack(content))
    after.unlink(missing_ok=True)
    cs.swap(before, after, verify="bits", **choices(of))
    found = unpack(after.read_bytes())
    expected = swapped(of).saying(**{RECIPE: found.metadata[RECIPE]})
    if found != expected:
        raise ValueError(f"{of} was not swapped as it should have been")
    return Prepared(Subject(of, content, found), before, after)


def choices(of: Case) -> dict[str, Any]:
    """Return the options that swap a case."""
    kernel = "x".join(map(str, of.conv[2:]))
    chosen: dict[str, Any] = {"to": of.to, "layers": list(of.modules), "layout": of.layout}
    if of.rule == "1x1":
        return {**chosen, "method": _METHODS[len(of.conv) - 2]}
    if of.rule == "full-kernel":
        return {**chosen, "input_shape": [f"*={of.conv[1]}x{kernel}"]}
    return {**chosen, "geometry": [f"*=k{kernel},s{kernel}"]}


def judged(work: Path, numbers: Iterable[int], seed: int) -> Iterator[Judged]:
    """Damage the files of some cases in every way and ask each proof about each.

    Args:
        work: an empty folder.
        numbers: of the cases.
        seed: of all that is random.
    """
    for number in numbers:
        of = case(number, seed)
        prepared = prepare(work, of)
        yield from judge(prepared)
        yield from judge_foreign(prepared)
        if len(of.modules) > 1:
            yield from judge_folder(prepare_folder(work / "shards", of))


def judge(prepared: Prepared) -> Iterator[Judged]:
    """Damage a swapped file in every way and ask each proof about each."""
    subject, path = prepared.subject, prepared.after.with_name("mutant.safetensors")
    for mutant in mutants(subject.case):
        file = damaged(subject, mutant)
        path.write_bytes(file)
        about = Judged(subject.case, mutant, find(subject.after, subject.case, file))
        yield ask_alone(ask(about, prepared.before, path), prepared.before, path)


def judge_foreign(prepared: Prepared) -> Iterator[Judged]:
    """Damage a swapped file that has no record, as if another tool had written it.

    The evidence is given; each weight may be in either layout.
    """
    subject, path = prepared.subject, prepared.after.with_name("foreign.safetensors")
    of = subject.case
    stated = {k: v for k, v in choices(of).items() if k not in {"to", "layout"}}
    other = swapped(replace(of, layout=LAYOUTS[1 - LAYOUTS.index(of.layout)]))
    names = {kind.name for kind in elements.KINDS}
    possible = [mutant for mutant in mutants(of) if mutant.kind in names]
    for mutant in of.random("foreign").sample(possible, _FOREIGN):
        file = damaged(subject, mutant)
        content = unpack(file)
        path.write_bytes(pack(content.silent(RECIPE)))
        found = find(subject.after, of, file)
        either = (subject.after.tensors, other.tensors)
        if all(t in (one[name] for one in either) for name, t in content.tensors.items()):
            found = Finding(Truth.SAME)
        renamed = mutant._replace(kind=WITHOUT_RECORD + mutant.kind)
        yield ask(Judged(of, renamed, found), prepared.before, path, stated)


@dataclass(frozen=True)
class PreparedFolder:
    """A true swap of two shards on disk.

    Attributes:
        of: its case.
        before: the folder with the original.
        folder: its files, and the others that a damaged folder may hold.
    """

    of: Case
    before: Path
    folder: folders.Folder


def prepare_folder(work: Path, of: Case) -> PreparedFolder:
    """Write shards of this training and of an earlier one, and swap both.

    Raises:
        ValueError: where the swapped folder is not proved to be one.
    """
    shutil.rmtree(work, ignore_errors=True)
    made: list[Files] = []
    for name, now in (("before", of), ("old", replace(of, seed=of.seed + 1))):
        before, after = work / name, work / f"{name}.swapped"
        _write(before, folders.folder_of(original(now), _groups(now)))
        cs.swap(before, after, verify="bits", **choices(now))
        made += [{p.name: p.read_bytes() for p in path.iterdir()} for path in (before, after)]
        if not cs.verify(before, after, function=False).equivalent:
            raise ValueError(f"{now} in shards is called different")
    return PreparedFolder(of, work / "before", folders.Folder(*made))


def _groups(of: Case) -> list[list[str]]:
    names = list(original(of).tensors)
    first = [name for name in names if name.startswith(("before", of.modules[0]))]
    return [first, [name for name in names if name not in first]]


def _write(folder: Path, files: Files) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def judge_folder(prepared: PreparedFolder) -> Iterator[Judged]:
    """Damage a swapped folder in every way and ask for the bits of each."""
    folder, path = prepared.folder, prepared.before.with_name("mutant")
    for number, (kind, files) in enumerate(folders.damaged(folder)):
        _write(path, files)
        found = find_in_folder(folder.before, folder.after, files)
        mutant = Mutant(prepared.of.number, kind, (number,))
        yield ask(Judged(prepared.of, mutant, found), prepared.before, path)
