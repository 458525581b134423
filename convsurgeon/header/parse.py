"""Bytes -> Header."""

from __future__ import annotations

from convsurgeon.errors import HeaderError, UnreadableError
from convsurgeon.header.grammar import read
from convsurgeon.header.value import Header
from convsurgeon.limits import DEFAULT_MAX_HEADER, FORMAT_MAX_HEADER

LENGTH_BYTES = 8


def header_length(first: bytes, file_size: int, limit: int = DEFAULT_MAX_HEADER) -> int:
    """Return N, the length of the JSON text, from the first eight bytes of the file.

    Args:
        first: the first eight bytes.
        file_size: bytes of the whole file.
        limit: largest N to accept; never more than the format's own limit.

    Raises:
        UnreadableError: CS036 where the file is shorter than its header.
        HeaderError: CS041 where N is above the limit.
    """
    if len(first) < LENGTH_BYTES:
        raise UnreadableError("CS036", f"only {file_size} bytes: too short for a safetensors file")
    length = int.from_bytes(first[:LENGTH_BYTES], "little")
    if length > min(limit, FORMAT_MAX_HEADER):
        hint = "--max-header-bytes raises the limit" if length <= FORMAT_MAX_HEADER else ""
        raise HeaderError("CS041", f"the header claims {length} bytes, above {limit}", hint=hint)
    if length > file_size - LENGTH_BYTES:
        raise UnreadableError("CS036", f"truncated: the header has {length} bytes, the file fewer")
    return length


def describe(text: bytes) -> Header:
    """Read the JSON text of a header, whatever stands behind it.

    Args:
        text: the N bytes behind the length, padding included.

    Raises:
        HeaderError: CS040 where a rule of the format is broken.
    """
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"invalid safetensors header: byte {error.start} is not UTF-8"
        raise HeaderError("CS040", message) from None
    tensors, metadata = read(decoded)
    return Header(tuple(tensors), metadata)


def parse(text: bytes, data_bytes: int) -> Header:
    """Read the JSON text of a header, and hold it against the length of the data.

    Args:
        text: see `describe`.
        data_bytes: bytes of the file behind the header.

    Raises:
        HeaderError: CS040 where a rule of the format is broken.
        UnreadableError: CS036 where the data has another length than the header says.
    """
    header = describe(text)
    if header.data_bytes != data_bytes:
        word = "truncated" if data_bytes < header.data_bytes else "too long"
        message = f"{word}: {data_bytes} bytes of data, the header describes {header.data_bytes}"
        raise UnreadableError("CS036", message)
    return header
