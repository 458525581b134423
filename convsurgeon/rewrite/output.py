"""A file about to be written: its header, and its data as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from convsurgeon.dtypes import itemsize
from convsurgeon.header import Header, TensorInfo
from convsurgeon.rearrangement import Rearrangement
from convsurgeon.rewrite.permute import permute, permuted
from convsurgeon.store import Part, Piece, Reader


@dataclass(frozen=True, slots=True)
class Output:
    """What is written instead of a source.

    Attributes:
        prefix: the length and the header.
        header: the source's, whose data is read.
        moves: rearrangements, one after another, of the tensors whose bytes change place, by name.
            All others keep every byte, and all tensors keep their offsets.
    """

    prefix: bytes
    header: Header
    moves: Mapping[str, tuple[Rearrangement, ...]]

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return len(self.prefix) + self.header.data_bytes

    def parts(self, reader: Reader) -> Iterator[Part]:
        """Yield the whole file; what does not change is one sequential copy."""
        yield self.prefix
        done = 0
        for tensor in self.header.in_data_order:
            moves = [move for move in self.moves.get(tensor.name, ()) if move.moves_bytes]
            if not moves:
                continue
            yield from reader.parts(done, tensor.begin)
            yield from _moved(reader, tensor, moves)
            done = tensor.end
        yield from reader.parts(done, self.header.data_bytes)


def _moved(reader: Reader, tensor: TensorInfo, moves: list[Rearrangement]) -> Iterator[Piece]:
    size = itemsize(tensor.dtype)
    if len(moves) == 1:
        yield from permuted(reader, tensor.begin, size, moves[0])
        return
    block: bytes | bytearray = reader.read(tensor.begin, tensor.end)
    for move in moves:
        block = permute(block, size, move)
    yield block
