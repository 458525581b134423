"""The safetensors header: bytes <-> a value that cannot be invalid."""

from convsurgeon.header.layout import lay_out, pack, padded_length
from convsurgeon.header.parse import DEFAULT_MAX_HEADER, FORMAT_MAX_HEADER, header_length, parse
from convsurgeon.header.value import Header, TensorInfo

__all__ = [
    "DEFAULT_MAX_HEADER",
    "FORMAT_MAX_HEADER",
    "Header",
    "TensorInfo",
    "header_length",
    "lay_out",
    "pack",
    "padded_length",
    "parse",
]
