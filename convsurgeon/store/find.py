"""From the paths of a command line to checkpoints."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from convsurgeon.errors import UnreadableError, UsageError
from convsurgeon.limits import DEFAULT_MAX_HEADER
from convsurgeon.store.beside import read_safetensors
from convsurgeon.store.index import INDEX_SUFFIX, read_shards, shard_names
from convsurgeon.store.listing import folders_of
from convsurgeon.store.opening import unreadable
from convsurgeon.store.pickles import SUFFIXES, read_pickle
from convsurgeon.store.source import Source

SAFETENSORS = ".safetensors"
# Saved beside the weights by training scripts; no state dicts of a model.
_NO_WEIGHTS = ("training_args", "optimizer", "scheduler", "rng_state", "scaler")


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How files are read.

    Attributes:
        key: which dictionary of a PyTorch file.
        limit: largest header to accept, in bytes.
        recursive: whether folders are searched below their first level.
    """

    key: str | None = None
    limit: int = DEFAULT_MAX_HEADER
    recursive: bool = False


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint: a file, or an index with its shards.

    Attributes:
        path: the file, or the index.
        sources: one for a single file.
    """

    path: Path
    sources: tuple[Source, ...]

    @property
    def sharded(self) -> bool:
        """Whether an index names its files."""
        return self.path.name.endswith(INDEX_SUFFIX)

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(source.size for source in self.sources)


def expand(patterns: tuple[str, ...]) -> tuple[Path, ...]:
    """Return the paths that the arguments name, each once, in their order.

    Raises:
        UnreadableError: CS030 where an argument names nothing.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        # Unlike Path.exists, neither of the two raises for a name that is too long or forbidden.
        exists = os.path.exists(pattern)  # noqa: PTH110
        names = [pattern] if exists else sorted(glob.glob(pattern))  # noqa: PTH207
        matches = [Path(name) for name in names]
        if not matches:
            raise _missing(pattern)
        found.update(dict.fromkeys(matches))
    return tuple(found)


def _missing(pattern: str) -> UnreadableError:
    message = "there is no such file"
    if glob.has_magic(pattern):
        message = "the pattern matches nothing"
    else:
        try:
            os.stat(pattern)  # noqa: PTH116 - a path may be no text that Path takes
        except PermissionError as error:  # of a folder on the way: nobody knows what is in there
            return unreadable(Path(pattern), error)
        except (OSError, ValueError):
            pass
    return UnreadableError("CS030", message, where=pattern, hint="check the path")


def checkpoint_paths(path: Path, *, recursive: bool = False) -> tuple[Path, ...]:
    """Return the files and indexes that a path stands for: itself, or what a folder holds.

    Raises:
        UnreadableError: CS032 where a folder holds no checkpoint.
    """
    if not path.is_dir():
        return (path,)
    folders = folders_of(path) if recursive else [path]
    found = [p for folder in folders for p in _in_folder(folder)]
    if not found:
        hint = "name a file" if recursive else "name a file, or add --recursive"
        raise UnreadableError("CS032", "the folder holds no checkpoint", where=path, hint=hint)
    return tuple(found)


def only_path(path: Path) -> Path:
    """Return the one file or index that a path stands for.

    Raises:
        UsageError: CS090 where a folder holds several checkpoints.
        UnreadableError: CS032 where it holds none.
    """
    found = checkpoint_paths(path)
    if len(found) > 1:
        names = ", ".join(p.name for p in found[:3])
        message = f"the folder holds {len(found)} checkpoints; name one of {names}"
        raise UsageError("CS090", message, where=path)
    return found[0]


def read_checkpoint(path: Path, options: ReadOptions) -> Checkpoint:
    """Read the headers of one checkpoint.

    Raises:
        RefusedError: for whatever cannot be read, with its right name.
    """
    if path.name.endswith(INDEX_SUFFIX):
        return Checkpoint(path, read_shards(path, options.limit))
    if path.suffix in SUFFIXES:
        return Checkpoint(path, (read_pickle(path, options.key),))
    return Checkpoint(path, (read_safetensors(path, options.limit),))


def _in_folder(folder: Path) -> Iterator[Path]:
    files = sorted(p for p in folder.iterdir() if not p.name.startswith(".") and not p.is_dir())
    indexes = [p for p in files if p.name.endswith(INDEX_SUFFIX)]
    stems = tuple(p.name.removesuffix(INDEX_SUFFIX) for p in indexes)
    singles = [p for p in files if p.suffix == SAFETENSORS and not _is_shard(p.name, stems)]
    if indexes and singles:  # most indexes need not be read for their shards to be told
        named = frozenset[str]().union(*map(shard_names, indexes))
        singles = [p for p in singles if p.name not in named]
    if indexes or singles:
        yield from (*indexes, *singles)
        return
    pickles = [p for p in files if p.suffix in SUFFIXES and not p.name.startswith(_NO_WEIGHTS)]
    preferred = [p for p in pickles if p.name == "pytorch_model.bin"]
    yield from preferred or pickles


def _is_shard(name: str, stems: tuple[str, ...]) -> bool:
    # model-00001-of-00003.safetensors belongs to model.safetensors.index.json
    return any(name.startswith(f"{stem}-") and "-of-" in name for stem in stems)
