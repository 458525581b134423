"""The packaged catalogue as a table: key -> JSON value, read bucket by bucket.

Layout, little-endian: the magic bytes; 256 times offset and length, each 4 bytes; the buckets, each
a zlib-compressed JSON object. A key's bucket is the first byte of its BLAKE2b digest. A scan
therefore decompresses a few kilobytes, not the whole.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

MAGIC = b"CSCAT001"
BUCKETS = 256
_SLOT = struct.Struct("<II")
_FILE = Path(__file__).with_name("catalogue.bin")


def bucket_of(key: str) -> int:
    """Return the number of the bucket that holds a key."""
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=1).digest()[0]


def pack(entries: Mapping[str, Any]) -> bytes:
    """Return the bytes of a table; equal entries give equal bytes."""
    buckets: list[dict[str, Any]] = [{} for _ in range(BUCKETS)]
    for key in sorted(entries):
        buckets[bucket_of(key)][key] = entries[key]
    texts = [json.dumps(bucket, separators=(",", ":")).encode() for bucket in buckets]
    bodies = [zlib.compress(text, 9) for text in texts]
    index, offset = [], len(MAGIC) + BUCKETS * _SLOT.size
    for body in bodies:
        index.append(_SLOT.pack(offset, len(body)))
        offset += len(body)
    return b"".join((MAGIC, *index, *bodies))


def unpack(content: bytes) -> dict[str, Any]:
    """Return every entry of a table; the inverse of `pack`."""
    buckets = (_read(content, number) for number in range(BUCKETS))
    return {key: value for bucket in buckets for key, value in bucket.items()}


@cache
def entry(key: str) -> Any:
    """Return the value under a key of the packaged table; None where there is none.

    The returned value is shared: callers must not change it.
    """
    return _bucket(bucket_of(key)).get(key)


@cache
def _content() -> bytes:
    content = _FILE.read_bytes()
    if content[: len(MAGIC)] != MAGIC:
        raise RuntimeError(f"{_FILE} is no catalogue of this version")
    return content


@cache
def _bucket(number: int) -> dict[str, Any]:
    return _read(_content(), number)


def _read(content: bytes, number: int) -> dict[str, Any]:
    offset, length = _SLOT.unpack_from(content, len(MAGIC) + number * _SLOT.size)
    found: dict[str, Any] = json.loads(zlib.decompress(content[offset : offset + length]))
    return found
