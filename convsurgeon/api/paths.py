"""Where things are and where they go."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from os import PathLike, fspath
from pathlib import Path

from convsurgeon.errors import (
    ConvsurgeonError,
    OutputError,
    RefusedError,
    UnreadableError,
    UsageError,
)
from convsurgeon.store import PICKLE_SUFFIXES, expand, files_of, is_folder, itself, recover, sync

Paths = str | PathLike[str] | Sequence[str | PathLike[str]]
SAFETENSORS = ".safetensors"
Trouble = tuple[str, ConvsurgeonError]


def resolve(paths: Paths) -> tuple[list[Path], list[Trouble]]:
    """Return the paths that the arguments name, and the arguments that name nothing."""
    patterns = [paths] if isinstance(paths, str | PathLike) else list(paths)
    found: dict[Path, None] = {}
    troubles: list[Trouble] = []
    for pattern in (fspath(p) for p in patterns):
        try:
            found.update(dict.fromkeys(expand((pattern,))))
        except ConvsurgeonError as error:
            troubles.append((pattern, error))
    if not patterns:
        raise UsageError("CS090", "no path was given")
    return list(found), troubles


def trouble(path: object, error: ConvsurgeonError | OSError) -> Trouble:
    """Return what stands against one path of several; the others go on."""
    if isinstance(error, OSError):
        error = UnreadableError.of_system(error, path)
    return str(path), error


def raise_if_alone(done: Sequence[object], troubles: Sequence[Trouble]) -> None:
    """Raise the only thing that happened, if that was an error."""
    if len(troubles) == 1 and not done:
        raise troubles[0][1]


def default_name(path: Path, word: str) -> str:
    """Return the name of an output beside its source: `model.linear.safetensors`, `vit.linear`."""
    if path.suffix == SAFETENSORS or path.suffix in PICKLE_SUFFIXES:
        return f"{path.stem}.{word}{SAFETENSORS}"
    return f"{path.name}.{word}"


def named(path: Path) -> Path:
    """Return a path that ends in a name: `.` and `..` have none of their own."""
    return path if path.name not in ("", "..") else path.resolve()


def check_outside(target: Path, folder: Path, done: str) -> None:
    """Refuse an output within the folder that it is made of: it would become a part of itself.

    Raises:
        OutputError: CS072.
    """
    if _place(target).is_relative_to(os.path.realpath(folder)):
        message = f"the output lies in the folder that is {done}"
        raise OutputError("CS072", message, where=target, hint="choose a place outside of it")


def check_spared(target: Path, sources: Iterable[Path]) -> None:
    """Refuse a folder as output that holds what it is made of: --force would remove that.

    Raises:
        OutputError: CS072.
    """
    place = _place(target)
    for source in sources:
        if Path(os.path.realpath(source)).is_relative_to(place):
            message = f"the output would replace a folder that holds its source, {source}"
            hint = "choose another name with -o"
            raise OutputError("CS072", message, where=target, hint=hint)


def _place(target: Path) -> Path:
    """Return where an output is; links and `..` lead to the same folder by other names."""
    return Path(os.path.realpath(target.parent), target.name)


def names_file(out: str | PathLike[str]) -> bool:
    """Tell whether `-o` is the name of a single file."""
    return Path(out).suffix == SAFETENSORS and not os.path.isdir(out)  # noqa: PTH112 (no error)


def no_folder(out: str | PathLike[str]) -> UsageError:
    """Return the error for several results that would go into one file."""
    message = "a single file cannot hold the result; name a folder"
    return UsageError("CS090", message, where=f"-o {fspath(out)}")


def check_no_output(out: str | PathLike[str] | None, *, force: bool, link: bool = False) -> None:
    """Refuse what is about an output beside `--in-place`, which has none.

    Raises:
        UsageError: CS090.
    """
    given = (("-o", out is not None), ("--force", force), ("--link", link))
    option = next((name for name, is_there in given if is_there), None)
    if option is not None:
        text = f"the output is the file itself: {option} has no meaning"
        raise UsageError("CS090", text, where="--in-place", hint=f"leave {option} away")


def target_of(path: Path, out: str | PathLike[str] | None, word: str, *, alone: bool) -> Path:
    """Return where the result for `path` goes.

    Args:
        path: a file, an index or a folder.
        out: `-o`; a name that ends in .safetensors is a file, every other one a folder.
        word: what distinguishes a default name.
        alone: whether it is the only path of the call.

    Raises:
        UsageError: CS090 where several results would go into one file.
        OutputError: CS072 where the result would be its own source.
    """
    source = path.parent if path.suffix == ".json" else path
    source = named(source)
    name = default_name(source, word)
    if out is None:
        target = source.parent / name
    else:
        given = Path(out)
        is_file = names_file(given)
        if is_file and (not alone or is_folder(source)):
            raise no_folder(given)
        whole = is_file or (alone and is_folder(source))
        target = named(given) if whole else given / name
    if _same(path, target):
        hint = "choose another name with -o"
        raise OutputError("CS072", "the output is the source itself", where=target, hint=hint)
    return target


def _same(path: Path, target: Path) -> bool:
    # Unlike Path.exists, it raises for no name that is too long.
    return all(map(os.path.exists, (target, path))) and target.samefile(path)


class MadeFolders:
    """The folders that an output needs, removed again if nothing came of them."""

    def __init__(self, target: Path) -> None:
        self.missing = [p for p in target.parents if not p.exists()]

    def __enter__(self) -> None:
        """Make them, outermost first."""
        try:
            for folder in reversed(self.missing):
                folder.mkdir(exist_ok=True)
                sync(folder.parent)  # or a power cut takes the folder, and the output with it
        except OSError as error:
            self.__exit__()
            message = f"cannot make the folder: {error.strerror}"
            raise OutputError("CS071", message, where=self.missing[0]) from None

    def __exit__(self, *_: object) -> None:
        """Remove those that stayed empty."""
        for folder in self.missing:
            with suppress(OSError):
                folder.rmdir()


def side_files(folder: Path, *, recursive: bool) -> Iterator[Path]:
    """Yield the regular files of a folder, with links followed, in the order of their names.

    What an interrupted run left beside one of them is finished first: it would be copied torn.

    Raises:
        UnreadableError: CS030, CS037 where a part of the folder cannot be listed.
        OutputError: CS077, CS078 where that is not possible.
    """
    for path in files_of(folder, recursive=recursive):
        recover(itself(path))
    yield from files_of(folder, recursive=recursive)


def check_inside(file: Path, folder: Path) -> None:
    """Refuse to copy a link that leads out of the folder that is copied.

    Whoever made the folder chose where it leads: to a private key, which would then be published
    with the output. The Hub's cache keeps links into `blobs` two folders up.

    Raises:
        RefusedError: CS042.
    """
    root, target = folder.resolve(), Path(os.path.realpath(file))
    if target.is_relative_to(root) or target.parent == root.parent.parent / "blobs":
        return
    hint = "put the file itself in its place, or remove the link"
    raise RefusedError("CS042", "this is a link out of the folder", where=file, hint=hint)
