"""Shards: `*.safetensors.index.json`, which names the file of every tensor."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from convsurgeon.errors import ShardError
from convsurgeon.limits import DEFAULT_MAX_HEADER
from convsurgeon.store.sniff import no_weights
from convsurgeon.store.source import SafetensorsFile, opened, read_safetensors, unreadable
from convsurgeon.untrusted import is_file_name, safe

INDEX_SUFFIX = ".safetensors.index.json"
_MAX_INDEX = 100_000_000


def read_shards(index: Path, limit: int = DEFAULT_MAX_HEADER) -> tuple[SafetensorsFile, ...]:
    """Read the headers of all shards that an index names, in the order of their names.

    Args:
        index: the index file.
        limit: largest header to accept, in bytes.

    Raises:
        ShardError: CS045 for a malformed or unsafe index, CS046 where it and the shards disagree.
        UnreadableError, HeaderError: for the shards themselves.
    """
    weight_map = _weight_map(index)
    names = sorted(set(weight_map.values()))
    shards = [read_safetensors(_plain_file(index, name), limit) for name in names]
    found = {key: shard.path.name for shard in shards for key in shard.header.by_name}
    if len(found) != sum(len(shard.header.tensors) for shard in shards):
        raise _disagree(index, "one tensor stands in two shards")
    for key in sorted(found.keys() | weight_map.keys()):
        if found.get(key) != weight_map.get(key):
            where = safe(found.get(key, "no shard"))
            says = safe(weight_map.get(key, "nothing"))
            message = f"tensor {safe(key)!r} stands in {where}, the index says {says}"
            raise _disagree(index, message)
    return tuple(shards)


def _weight_map(index: Path) -> dict[str, str]:
    with opened(index) as fd, open(fd, "rb", closefd=False) as file:
        text = file.read(_MAX_INDEX + 1)
    if wrong := no_weights(text[:64]):
        raise wrong.at(index)
    try:
        content = json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        message = f"the index is not valid JSON: {error}"
        raise _invalid(index, message) from None
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise _invalid(index, "the index has no weight_map")
    plain: set[str] = set()  # a name is looked at once, however many tensors stand in its file
    for key, name in weight_map.items():
        if isinstance(name, str) and (name in plain or is_file_name(name)):
            plain.add(name)
            continue
        where = f"{safe(key)!r} is said to stand in {safe(name)!r}"
        raise _invalid(index, f"{where}, which is no plain file name")
    return weight_map


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        raise ValueError("a key stands twice")
    return content


def _plain_file(index: Path, name: str) -> Path:
    """Return the shard's path if it is a file of the index's own folder.

    The Hub's cache keeps links into `blobs` two folders up; every other link leads to a place that
    whoever wrote the index chose.
    """
    path = index.parent / name
    try:
        is_link = stat.S_ISLNK(path.lstat().st_mode)
        target = Path(os.path.realpath(path, strict=True))  # Path.resolve: no OSError for a loop
    except FileNotFoundError:
        message = f"the shard {safe(name)!r} is missing"
        raise ShardError("CS046", message, where=index, hint="fetch it") from None
    except OSError as error:
        raise unreadable(path, error) from None
    blobs = index.parent.resolve().parent.parent / "blobs"
    if is_link and target.parent != blobs:
        message = f"the shard {safe(name)!r} is a link out of the folder"
        raise _invalid(index, message)
    return path


def _invalid(index: Path, message: str) -> ShardError:
    hint = "write the checkpoint again with the library that made it"
    return ShardError("CS045", message, where=index, hint=hint)


def _disagree(index: Path, message: str) -> ShardError:
    hint = "a shard of another save? fetch or save the checkpoint again"
    return ShardError("CS046", message, where=index, hint=hint)
