"""The data of a PyTorch file in the order that a safetensors file of its tensors has."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from convsurgeon.header import Header, TensorInfo, lay_out
from convsurgeon.store.mapped import mappings_of, place_of
from convsurgeon.store.parts import CHUNK, Extent, Part, Piece

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PickleReader:
    """The tensors while they are open; see `Reader`.

    What is read is what torch shows. What is copied is taken from the file itself, where the
    system says that a tensor is a piece of it as it stands; the proof then compares the two.

    Attributes:
        path: of the file.
        fd: its descriptor.
        header: of the safetensors file.
        tensors: by name, mapped from the file by torch.
    """

    path: Path
    fd: int
    header: Header
    tensors: Mapping[str, torch.Tensor]
    _bytes: dict[str, memoryview] = field(default_factory=dict)

    @property
    def place(self) -> object:
        """Only the reader itself: one path holds several dictionaries."""
        return id(self)

    def prefix(self) -> bytes:
        """Return the header that the safetensors file has."""
        return lay_out(self.header)

    def chunks(self, begin: int, end: int) -> Iterator[Piece]:
        """Yield data; see `Reader.chunks`."""
        for info, first, last in self._stretches(begin, end):
            view = self._view(info.name)
            for position in range(first, last, CHUNK):
                yield view[position - info.begin : min(position + CHUNK, last) - info.begin]

    def parts(self, begin: int, end: int) -> Iterator[Part]:
        """Yield data, as places in the file where it lies there in one piece."""
        mappings = mappings_of(self.fd)
        for info, first, last in self._stretches(begin, end):
            tensor = self.tensors[info.name]
            as_stored = tensor.is_contiguous() and not tensor.is_conj() and not tensor.is_neg()
            place = place_of(tensor.data_ptr(), info.nbytes, mappings) if as_stored else None
            if place is None or last - first < CHUNK:
                yield from self.chunks(first, last)
            else:
                place -= info.begin
                yield Extent(self.fd, place + first, place + last, self.path)

    def read(self, begin: int, end: int) -> bytes:
        """Return data in one piece."""
        return b"".join(self.chunks(begin, end))

    def fill(self, buffer: memoryview, begin: int) -> None:
        """Read data into memory that is there; see `Reader.fill`."""
        done = 0
        for piece in self.chunks(begin, begin + len(buffer)):
            buffer[done : done + len(piece)] = piece
            done += len(piece)

    def _stretches(self, begin: int, end: int) -> Iterator[tuple[TensorInfo, int, int]]:
        """Yield each tensor of a range, and what part of the range is its own."""
        order = self.header.in_data_order
        place = max(bisect_right(order, begin, key=lambda t: t.begin) - 1, 0)
        while place < len(order) and order[place].begin < end:
            info = order[place]
            first, last = max(begin, info.begin), min(end, info.end)
            if first < last:
                yield info, first, last
            place += 1

    def _view(self, name: str) -> memoryview:
        # Of a tensor that does not lie in one piece this is a copy: it is made once, not for every
        # range of it, and given up with the next tensor. Two threads that come at once make two.
        view = self._bytes.get(name)
        if view is None:
            view = _bytes_of(self.tensors[name])
            self._bytes.clear()
            self._bytes[name] = view
        return view


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    import torch

    plain = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return plain.view(torch.uint8).numpy().data
