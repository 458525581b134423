"""A file about to be written: its header, and its data as a stream."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from convsurgeon.dtypes import itemsize
from convsurgeon.header import Header, TensorInfo
from convsurgeon.rearrangement import Rearrangement
from convsurgeon.rewrite.permute import BLOCK, permute, permuted
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
    # One after another, in groups of rows: no rule moves an element into another row.
    rows = moves[0].split[0]
    row_bytes = tensor.nbytes // rows
    step = max(1, BLOCK // row_bytes)
    if any(move.axes[0] or move.split[0] != rows for move in moves):
        step = rows
    for first in range(0, rows, step):
        count = min(step, rows - first)
        begin = tensor.begin + first * row_bytes
        block: bytes | bytearray = reader.read(begin, begin + count * row_bytes)
        for move in moves:
            split = (move.split[0] * count // rows, *move.split[1:])
            block = permute(block, size, Rearrangement(split, split, move.axes, split))
        yield block
