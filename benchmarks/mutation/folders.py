"""Damage to a folder of shards with its index."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from mutation.content import Content, Tensor, pack
from mutation.kind import Files

INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class Folder:
    """A folder in four states.

    Attributes:
        before: the original.
        after: what the swap made of it.
        old_before: the same of an earlier training.
        old_after: what the swap made of that.
    """

    before: Files
    after: Files
    old_before: Files
    old_after: Files


def folder_of(content: Content, groups: Sequence[Sequence[str]]) -> Files:
    """Return a checkpoint in shards, each with some of the tensors."""
    files: Files = {}
    places: dict[str, str] = {}
    for number, names in enumerate(groups, 1):
        name = f"model-{number:05}-of-{len(groups):05}.safetensors"
        tensors = {key: content.tensors[key] for key in names}
        files[name] = pack(Content(tensors, content.metadata))
        places |= dict.fromkeys(names, name)
    size = sum(len(tensor.data) for tensor in content.tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": places}
    return {**files, INDEX: json.dumps(index).encode()}


Mutants = Iterator[tuple[str, Files]]
"""Kinds of damage with the damaged folders."""


def damaged(folder: Folder) -> Mutants:
    """Yield every damage to a folder."""
    after = folder.after
    for name in (name for name in after if name != INDEX):
        for kind, data in _stale(folder, name):
            yield kind, {**after, name: data}
        yield "a shard missing", {n: data for n, data in after.items() if n != name}
        yield "a shard cut off", {**after, name: after[name][:-3]}
        yield "a shard's last bit", {**after, name: _last_bit(after[name])}
        yield "a shard empty", {**after, name: b""}
    for one, other in combinations([name for name in after if name != INDEX], 2):
        yield "two shards exchanged", {**after, one: after[other], other: after[one]}
        yield "one shard under two names", {**after, other: after[one]}
    yield "all shards of an earlier training", folder.old_after
    yield "all shards unswapped", folder.before
    yield "the index missing", {n: data for n, data in after.items() if n != INDEX}
    yield from _other_indexes(after)


def _stale(folder: Folder, name: str) -> Iterator[tuple[str, bytes]]:
    states = {
        "a shard unswapped": folder.before,
        "a shard of an earlier training": folder.old_after,
        "a shard of an earlier training, unswapped": folder.old_before,
    }
    for kind, files in states.items():
        if files[name] != folder.after[name]:
            yield kind, files[name]


def _last_bit(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def _other_indexes(after: Files) -> Mutants:
    index = json.loads(after[INDEX])
    places: dict[str, str] = index["weight_map"]
    shards = sorted(set(places.values()))
    for key, shard in places.items():
        rest = {name: place for name, place in places.items() if name != key}
        yield "a tensor missing in the index", _indexed(after, weight_map=rest)
        for other in (*(s for s in shards if s != shard), "model.safetensors", "../x.safetensors"):
            yield (
                "a tensor elsewhere in the index",
                _indexed(after, weight_map={**rest, key: other}),
            )
        renamed = {f"{name}_" if name == key else name: place for name, place in places.items()}
        yield "a tensor renamed in the index", _indexed(after, weight_map=renamed)
    more = pack(Content({"extra": Tensor("U8", (1,), b"\0")}, {"format": "pt"}))
    name = "model-00009-of-00009.safetensors"
    found = _indexed({**after, name: more}, weight_map={**places, "extra": name})
    yield "a shard more", found
    yield "the index cut off", {**after, INDEX: after[INDEX][:-5]}
    yield "the index of another size", _indexed(after, metadata={"total_size": 7})


def _indexed(files: Files, **changes: object) -> Files:
    index = {**json.loads(files[INDEX]), **changes}
    return {**files, INDEX: json.dumps(index).encode()}
