"""Checkpoints made up for measuring: of any size, of many tensors, in many shards."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from convsurgeon.header import Header, lay_out, pack

_CHUNK = 1 << 20
EMBEDDING = ("proj.weight", "F32", (1024, 3, 16, 16))
"""The one layer that is rewritten, by `--geometry proj=s16`."""
Entry = tuple[str, str, tuple[int, ...]]
METADATA = {"format": "pt"}


def checkpoint(gigabytes: float) -> Header:
    """Return the header of a made-up model of 64 blocks with one patch embedding."""
    rows = max(1, int(gigabytes * 1e9 / 64 / 4096 / 4))
    blocks = ((f"blocks.{i}.weight", "F32", (rows, 4096)) for i in range(64))
    return pack([EMBEDDING, *blocks], METADATA)


def of_tensors(count: int) -> Header:
    """Return the header of a made-up model of that many tensors of a kibibyte."""
    blocks = ((f"blocks.{i}.mlp.weight", "F32", (16, 16)) for i in range(count - 1))
    return pack([EMBEDDING, *blocks], METADATA)


def write(path: Path, header: Header, *, sparse: bool = False) -> None:
    """Write the file with data that does not compress to nothing, or with one hole for data."""
    with path.open("wb") as file:
        file.write(lay_out(header))
        if sparse:
            file.truncate(file.tell() + header.data_bytes)
        else:
            for piece in _noise(header.data_bytes):
                file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def write_shards(folder: Path, shards: int, tensors: int, gigabytes: float) -> None:
    """Write a sharded checkpoint: its tensors, and its bytes, are spread evenly.

    Args:
        folder: where; it is made.
        shards: how many files.
        tensors: how many in each.
        gigabytes: of all of them together.
    """
    folder.mkdir(parents=True)
    rows = int(gigabytes * 1e9 / shards / tensors / 4096 / 4)
    weight_map = {}
    for number in range(1, shards + 1):
        name = f"model-{number:05}-of-{shards:05}.safetensors"
        entries: list[Entry] = [
            (f"blocks.{number}.{i}.weight", "F32", (rows, 4096)) for i in range(tensors)
        ]
        entries += [EMBEDDING] if number == 1 else []
        write(folder / name, pack(entries, METADATA))
        weight_map.update(dict.fromkeys((entry[0] for entry in entries), name))
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")


def apart(work: Callable[..., None], *arguments: object) -> None:
    """Do something in a process of its own: what this one has used counts as its children's peak.

    Raises:
        RuntimeError: if it fails.
    """
    process = multiprocessing.Process(target=work, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{work.__name__} failed")


def write_model(path: Path, gigabytes: float, sparse: bool = False) -> None:
    """Write `checkpoint`."""
    write(path, checkpoint(gigabytes), sparse=sparse)


def write_tensors(path: Path, count: int) -> None:
    """Write `of_tensors`."""
    write(path, of_tensors(count))


def _noise(count: int) -> Iterator[bytes]:
    block = os.urandom(_CHUNK)
    for done in range(0, count, _CHUNK):
        yield block[: min(_CHUNK, count - done)]
