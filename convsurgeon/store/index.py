"""Shards: `*.safetensors.index.json`, which names the file of every tensor."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from convsurgeon.bounded_json import object_of
from convsurgeon.errors import ConvsurgeonError, ShardError
from convsurgeon.header import Header
from convsurgeon.limits import DEFAULT_MAX_HEADER, FORMAT_MAX_HEADER
from convsurgeon.store.beside import read_safetensors
from convsurgeon.store.opening import opened, unreadable
from convsurgeon.store.safetensors_file import SafetensorsFile
from convsurgeon.store.sniff import no_weights
from convsurgeon.untrusted import is_file_name, quoted, safe

INDEX_SUFFIX = ".safetensors.index.json"


def read_shards(index: Path, limit: int = DEFAULT_MAX_HEADER) -> tuple[SafetensorsFile, ...]:
    """Read the headers of all shards that an index names, in the order of their names.

    Args:
        index: the index file.
        limit: largest header to accept, and largest index, in bytes.

    Raises:
        ShardError: CS045 for a malformed or unsafe index, CS046 where it and the shards disagree.
        UnreadableError, HeaderError: for the shards themselves.
    """
    try:
        weight_map = weight_map_of(index_content(index, limit))
        names = sorted(set(weight_map.values()))
        shards = [read_safetensors(_plain_file(index, name), limit) for name in names]
        check_agreement(weight_map, {shard.path.name: shard.header for shard in shards})
    except ConvsurgeonError as error:
        raise error.at(index) from None
    return tuple(shards)


def weight_map_of(content: bytes) -> dict[str, str]:
    """Return the file of every tensor, from the bytes of an index.

    Every file name is a plain one: it has no folder, and no character that a path cannot have.

    Raises:
        ShardError: CS045.
        UnreadableError: CS031, CS033, CS034 for what is no index at all.
    """
    if wrong := no_weights(content[:64]):
        raise wrong
    weight_map = object_of(content, _no_index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        _no_index("it has no weight_map")
    plain: set[str] = set()  # a name is looked at once, however many tensors stand in its file
    for key, name in weight_map.items():
        if isinstance(name, str) and (name in plain or is_file_name(name)):
            plain.add(name)
            continue
        raise _invalid(f"{quoted(key)} is said to stand in {quoted(name)}, no plain file name")
    folded: dict[str, str] = {}
    for name in sorted(plain):
        if (other := folded.setdefault(name.casefold(), name)) != name:
            # One and the same file where the file system ignores case, and one copy of two.
            raise _invalid(f"the shards {quoted(other)} and {quoted(name)} differ in case alone")
    return weight_map


def check_agreement(weight_map: Mapping[str, str], shards: Mapping[str, Header]) -> None:
    """Hold an index against its shards, both ways.

    Args:
        weight_map: the file of every tensor, as the index says.
        shards: by the names of their files.

    Raises:
        ShardError: CS046.
    """
    found = {key: name for name, header in shards.items() for key in header.by_name}
    if len(found) != sum(len(header.tensors) for header in shards.values()):
        raise _disagree("one tensor stands in two shards")
    if found == weight_map:
        return
    key = min(k for k in found.keys() | weight_map.keys() if found.get(k) != weight_map.get(k))
    stands, says = safe(found.get(key, "no shard")), safe(weight_map.get(key, "nothing"))
    raise _disagree(f"tensor {quoted(key)} stands in {stands}, the index says {says}")


def index_content(index: Path, limit: int) -> bytes:
    """Return the bytes of an index.

    Raises:
        ShardError: CS045 where there are more than `limit`.
        UnreadableError: where it cannot be opened.
    """
    with opened(index) as fd, open(fd, "rb", closefd=False) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        message = f"the index has more than {limit} bytes"
        raise ShardError("CS045", message, hint="--max-header-bytes raises the limit")
    return content


def shard_names(index: Path) -> frozenset[str]:
    """Return the names of the files that an index names; none where it cannot be read.

    For telling shards from checkpoints of their own: whoever reads the index itself gets its error.
    """
    try:
        return frozenset(weight_map_of(index_content(index, FORMAT_MAX_HEADER)).values())
    except ConvsurgeonError:
        return frozenset()


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
        message = f"the shard {quoted(name)} is missing"
        raise ShardError("CS046", message, hint="fetch it") from None
    except OSError as error:
        raise unreadable(path, error) from None
    blobs = index.parent.resolve().parent.parent / "blobs"
    if is_link and target.parent != blobs:
        message = f"the shard {quoted(name)} is a link out of the folder"
        raise _invalid(message)
    return path


def _no_index(why: str) -> NoReturn:
    raise _invalid(f"this is no shard index: {why}")


def _invalid(message: str) -> ShardError:
    return ShardError("CS045", message, hint="write it again with the library that made it")


def _disagree(message: str) -> ShardError:
    hint = "a shard of another save? fetch or save the checkpoint again"
    return ShardError("CS046", message, hint=hint)
