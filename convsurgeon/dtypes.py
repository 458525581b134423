"""The element types of the safetensors format.

Source: `Dtype` in `safetensors/src/tensor.rs`, 0.8.0. Sizes are in bits, since four types are
smaller than a byte.
"""

from __future__ import annotations

from typing import Final

BITS: Final[dict[str, int]] = {
    "BOOL": 8,
    "F4": 4,
    "F6_E2M3": 6,
    "F6_E3M2": 6,
    "U8": 8,
    "I8": 8,
    "F8_E5M2": 8,
    "F8_E4M3": 8,
    "F8_E8M0": 8,
    "F8_E4M3FNUZ": 8,
    "F8_E5M2FNUZ": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "C64": 64,
    "F64": 64,
    "I64": 64,
    "U64": 64,
}
"""Every dtype and its size in bits, in the reference's alignment order (small to large)."""

# F8_E8M0 holds scales, never weights; sub-byte types are packed; the rest are no real numbers.
PLAIN_FLOATS: Final = frozenset(
    {"F64", "F32", "F16", "BF16", "F8_E5M2", "F8_E4M3", "F8_E5M2FNUZ", "F8_E4M3FNUZ"}
)
"""The dtypes in which a file can store a weight as it is used."""


def itemsize(dtype: str) -> int:
    """Bytes of one element.

    Raises:
        ValueError: for the sub-byte types, whose elements have no address of their own.
    """
    whole, rest = divmod(BITS[dtype], 8)
    if rest or not whole:
        raise ValueError(f"{dtype} elements are smaller than a byte")
    return whole
