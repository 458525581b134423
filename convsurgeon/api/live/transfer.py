"""Tensors of files into parameters, one after the other.

Imported by `load`, and by `verify` for the inputs of whole models, with torch at hand.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from convsurgeon.api.live.model import Slot
from convsurgeon.api.live.placing import Placement, Way
from convsurgeon.errors import MismatchError
from convsurgeon.header import TensorInfo
from convsurgeon.integrations import Unit
from convsurgeon.store import Checkpoint, Reader, Source

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_TORCH_NAMES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "C64": "complex64",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}


def empty_tensors(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return every tensor of a checkpoint as dtype and shape, on the meta device.

    Raises:
        MismatchError: CS084 for a dtype that torch has not.
    """
    import torch

    infos = (info for source in checkpoint.sources for info in source.header.tensors)
    return {i.name: torch.empty(i.shape, dtype=_dtype(i), device="meta") for i in infos}


def tensors_of(source: Source) -> dict[str, Tensor]:
    """Read every tensor of one file.

    Raises:
        MismatchError: CS084 for a dtype that torch has not.
        UnreadableError: CS038 where the file has changed since its header was read.
    """
    with source.reader() as reader:
        return {info.name: _tensor(reader, info) for info in source.header.tensors}


class Transfer:
    """The open files of a checkpoint.

    Raises:
        UnreadableError: CS038 where a file has changed since its header was read.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._stack = ExitStack()
        self._found: dict[str, tuple[Reader, TensorInfo]] = {}

    def __enter__(self) -> Self:
        """Open them."""
        with ExitStack() as stack:
            for source in self._checkpoint.sources:
                reader = stack.enter_context(source.reader())
                self._found.update({i.name: (reader, i) for i in source.header.tensors})
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        """Close them."""
        self._stack.close()

    def check_ties(self, placement: Placement) -> None:
        """Refuse two tensors that differ and are to become one parameter.

        Raises:
            MismatchError: CS084.
        """
        claims: dict[int, list[tuple[Unit, str, Way]]] = {}
        for unit, ways in placement.ways:
            for name, way in ((name, way) for name, each in ways.items() for way in each):
                claims.setdefault(id(way.slot), []).append((unit, name, way))
        for first, *others in claims.values():
            for other in others:
                if not _same(self._value(*first), self._value(*other)):
                    message = f"it is tied to {first[1]} in the model, but differs in the file"
                    raise MismatchError("CS084", message, where=other[1])

    def fill(self, placement: Placement) -> None:
        """Copy every tensor to its place; what has no memory yet gets some."""
        for unit, ways in placement.ways:
            self._fill(unit, ways)  # what is read dies with the call, before the next is read

    def _fill(self, unit: Unit, ways: dict[str, tuple[Way, ...]]) -> None:
        results = unit.run(self._read(unit))
        for name, each in ways.items():
            for way in each:
                _put(way.slot, way.fit(results[name]))

    def _value(self, unit: Unit, name: str, way: Way) -> Tensor:
        return way.fit(unit.run(self._read(unit))[name])

    def _read(self, unit: Unit) -> dict[str, Tensor]:
        return {key: _tensor(*self._found[key]) for key in unit.keys}


def _tensor(reader: Reader, info: TensorInfo) -> Tensor:
    import torch

    if not info.nbytes:
        return torch.empty(info.shape, dtype=_dtype(info), device="cpu")
    data = bytearray(info.nbytes)  # filled piece by piece: one copy in memory, not two
    position = 0
    for piece in reader.chunks(info.begin, info.end):
        data[position : position + len(piece)] = piece
        position += len(piece)
    return torch.frombuffer(data, dtype=_dtype(info)).reshape(info.shape)


def _dtype(info: TensorInfo) -> torch.dtype:
    import torch

    name = _TORCH_NAMES.get(info.dtype)
    found = getattr(torch, name, None) if name else None
    if not isinstance(found, torch.dtype):
        raise MismatchError("CS084", f"torch has no dtype {info.dtype}", where=info.name)
    return found


def _same(first: Tensor, second: Tensor) -> bool:
    """Compare bits, so that a NaN equals itself."""
    import torch

    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    one, other = (t.contiguous().reshape(-1).view(torch.uint8) for t in (first, second))
    return torch.equal(one, other)


def _put(slot: Slot, value: Tensor) -> None:
    import torch

    old = slot.tensor
    if not old.is_meta:
        with torch.no_grad():
            old.copy_(value)
        return
    # A copy, since what a conversion cut from one tensor shares its memory.
    new = torch.empty_like(old, device="cpu").copy_(value)
    if isinstance(old, torch.nn.Parameter):
        new = torch.nn.Parameter(new, requires_grad=old.requires_grad)
    for module, attribute in slot.places:
        setattr(module, attribute, new)
