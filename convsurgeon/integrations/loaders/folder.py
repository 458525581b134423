"""A folder as a library expects it: the config, and the weights under the names that it looks for.

Nothing else of the checkpoint's own folder is there: adapters, code and further weights that lie
beside a file would be loaded too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from convsurgeon.errors import ModelError
from convsurgeon.store import Checkpoint, Source

Place = Callable[[Source, Path], None]
"""Puts one file of weights under a path."""


@dataclass(frozen=True, slots=True)
class FileNames:
    """The names that a library looks for.

    Attributes:
        single: of a checkpoint of one file.
        index: of the index of shards; empty where the library reads single files only.
    """

    single: str
    index: str = ""


@contextmanager
def laid_out(
    checkpoint: Checkpoint, names: FileNames, config: Mapping[str, Any], place: Place
) -> Iterator[str]:
    """Make the folder, and remove it afterwards.

    Raises:
        ModelError: CS062 for shards where the library reads single files only.
    """
    if checkpoint.sharded and not names.index:
        text, hint = "the library reads no shards", "join them into one file first"
        raise ModelError("CS062", text, where=checkpoint.path, hint=hint)
    with TemporaryDirectory(prefix="convsurgeon-") as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config), "utf-8")
        if checkpoint.sharded:
            (Path(folder) / names.index).symlink_to(checkpoint.path.resolve())
        for source in checkpoint.sources:
            place(source, Path(folder) / (source.path.name if checkpoint.sharded else names.single))
        yield folder


def linked(source: Source, path: Path) -> None:
    """Put the file itself there."""
    path.symlink_to(source.path.resolve())


def blank(source: Source, path: Path) -> None:
    """Put a file with the same tensors there, whose every byte of data is zero.

    It is a hole behind a header: where the file system knows holes, it takes no space.
    """
    with source.reader() as reader:
        path.write_bytes(reader.prefix())
    os.truncate(path, source.size)
