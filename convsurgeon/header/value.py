"""The header as a value. It validates itself: an invalid header cannot exist as an object."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod
from typing import NamedTuple, NoReturn

from convsurgeon.dtypes import BITS
from convsurgeon.errors import HeaderError
from convsurgeon.untrusted import quoted

MAX_RANK = 64
# Far above any real file's; a hostile one could otherwise spend 20 times its bytes on pairs.
MAX_METADATA = 1_000_000
# The reference counts elements and bits in u64 and refuses what overflows, depending on the order
# of the dimensions. Refusing every overflow of the non-zero ones is never laxer.
_U64 = 1 << 64


class TensorInfo(NamedTuple):
    """One entry of the header.

    Attributes:
        name: the key of the state dict.
        dtype: one of `dtypes.BITS`.
        shape: sizes, outermost first; empty for a scalar.
        begin: first byte of the data, counted from the end of the header.
        end: one past the last byte.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def nbytes(self) -> int:
        """Bytes of data."""
        return self.end - self.begin


@dataclass(frozen=True)
class Header:
    """A valid header: the tensors in the order of the JSON text, and the metadata in its order.

    Rules are those of the format's README (https://github.com/huggingface/safetensors#format),
    taken strictly: unique names, known dtypes, sizes that match the offsets, and offsets that cover
    the data without hole or overlap, from 0.

    Raises:
        HeaderError: CS040, naming the tensor.
    """

    tensors: tuple[TensorInfo, ...]
    metadata: tuple[tuple[str, str], ...] | None = None

    def __post_init__(self) -> None:
        """Check every rule; the order of the checks is from the single tensor to the whole."""
        for tensor in self.tensors:
            _check_tensor(tensor)
        if len(self.by_name) != len(self.tensors):
            _invalid("two tensors have one name")
        if "__metadata__" in self.by_name:
            _invalid("a tensor is named __metadata__, which the format reserves")
        self._check_metadata()
        end = 0
        for tensor in self.in_data_order:
            if tensor.begin != end:
                kind = "overlaps" if tensor.begin < end else "leaves a hole after"
                _invalid(f"tensor {quoted(tensor.name)} {kind} the data before it")
            end = tensor.end

    def _check_metadata(self) -> None:
        entries = self.metadata or ()
        if len(entries) > MAX_METADATA:
            _invalid(f"more than {MAX_METADATA} metadata entries")
        if len(dict(entries)) != len(entries):
            _invalid("two metadata entries have one key")
        for key, value in entries:
            if not (_encodes(key) and _encodes(value)):
                _invalid(f"metadata {quoted(key)} is not valid Unicode")

    @cached_property
    def by_name(self) -> dict[str, TensorInfo]:
        """The tensors by name."""
        return {tensor.name: tensor for tensor in self.tensors}

    @cached_property
    def in_data_order(self) -> tuple[TensorInfo, ...]:
        """The tensors as their bytes follow each other in the file."""
        return tuple(sorted(self.tensors, key=lambda t: (t.begin, t.end)))

    @property
    def data_bytes(self) -> int:
        """Bytes of all tensors together."""
        return self.in_data_order[-1].end if self.tensors else 0

    def same_data(self, other: Header) -> bool:
        """Tell whether both describe the same bytes as tensors of the same names and dtypes.

        The shapes, the order of the entries and the metadata may differ.
        """
        names = other.by_name
        return len(self.tensors) == len(names) and all(
            (same := names.get(t.name)) is not None
            and (t.dtype, t.begin, t.end) == (same.dtype, same.begin, same.end)
            for t in self.tensors
        )

    @cached_property
    def metadata_map(self) -> dict[str, str]:
        """The metadata as a mapping; empty where there is none."""
        return dict(self.metadata or ())


@lru_cache(maxsize=1024)  # large checkpoints repeat a handful of shapes
def _bits(dtype: str, shape: tuple[int, ...]) -> int:
    """Return the size of a valid tensor in bits; -1 where something is wrong with it."""
    bits = BITS.get(dtype)
    if bits is None or len(shape) > MAX_RANK or (shape and not 0 <= min(shape) <= max(shape)):
        return -1
    return prod(shape) * bits if prod(filter(None, shape)) * bits < _U64 else -1


def _check_tensor(tensor: TensorInfo) -> None:
    name, dtype, shape, begin, end = tensor
    if name.isascii() and 0 <= begin <= end < _U64 and _bits(dtype, shape) == (end - begin) * 8:
        return  # as nearly all are; what follows says what is wrong with the others
    if not _encodes(name):
        _invalid(f"the name {quoted(name)} is not valid Unicode")
    bits = BITS.get(dtype)
    if bits is None:
        _invalid(f"tensor {quoted(name)} has the unknown dtype {quoted(dtype)}")
    if len(shape) > MAX_RANK:
        _invalid(f"tensor {quoted(name)} has {len(shape)} dimensions")
    if not 0 <= begin <= end < _U64 or (shape and not 0 <= min(shape) <= max(shape) < _U64):
        _invalid(f"tensor {quoted(name)} has a size or an offset out of range")
    if prod(filter(None, shape)) * bits >= _U64:
        _invalid(f"the size of tensor {quoted(name)} overflows")
    if prod(shape) * bits != (end - begin) * 8:
        what = f"of {dtype} {list(shape)} does not fill its {end - begin} bytes"
        _invalid(f"tensor {quoted(name)} {what}")


def _encodes(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _invalid(message: str) -> NoReturn:
    raise HeaderError("CS040", f"invalid safetensors header: {message}")
