"""The safetensors header: bytes <-> a value that cannot be invalid."""

from convsurgeon.header.layout import lay_out, pack, padded_length
from convsurgeon.header.parse import describe, header_length, parse
from convsurgeon.header.value import Header, TensorInfo

__all__ = [
    "Header",
    "TensorInfo",
    "describe",
    "header_length",
    "lay_out",
    "pack",
    "padded_length",
    "parse",
]
