"""A file seen with another header in front of its data: what it would be, or what it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from convsurgeon.errors import OutputError
from convsurgeon.header import Header, parse
from convsurgeon.header.parse import LENGTH_BYTES
from convsurgeon.plan import Recipe
from convsurgeon.store.parts import Part, Piece
from convsurgeon.store.safetensors_file import SafetensorsFile
from convsurgeon.store.sidecar import with_recipe
from convsurgeon.store.source import Reader, Stamp


@dataclass(frozen=True)
class Reheaded:
    """A source whose data is that of a file on disk, read there and nowhere else.

    Attributes:
        file: holds the data, behind a header of the same length.
        prefix: the other length and header.
        header: what `prefix` says, with the recipe that would stand beside it.
        dropped: nothing.
    """

    file: SafetensorsFile
    prefix: bytes
    header: Header
    dropped: tuple[str, ...] = ()

    @classmethod
    def of(cls, file: SafetensorsFile, prefix: bytes, recipe: Recipe | None) -> Self:
        """Read the other header as any reader of the file would; it has to be of the same data.

        Args:
            file: holds the data.
            prefix: as many bytes as the file has in front of its data.
            recipe: of the sidecar; None where there would be none.

        Raises:
            HeaderError, UnreadableError: where the two do not go together.
            OutputError: CS075 where it has tensors of other names or dtypes, or in other places.
        """
        header = parse(prefix[LENGTH_BYTES:], file.size - len(prefix))
        if not header.same_data(file.header):
            message = "not possible in place: tensors get other names, dtypes or places"
            hint = "write a new file instead: leave --in-place away"
            raise OutputError("CS075", message, where=file.path, hint=hint)
        return cls(file, prefix, header if recipe is None else with_recipe(header, recipe))

    @property
    def path(self) -> Path:
        """Where the file is."""
        return self.file.path

    @property
    def stamp(self) -> Stamp:
        """That of the file."""
        return self.file.stamp

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.file.size

    @contextmanager
    def reader(self) -> Iterator[Reader]:
        """Open the file; see `Source.reader`."""
        with self.file.reader() as reader:
            yield _Reader(reader, self.prefix)


@dataclass(frozen=True)
class _Reader:
    data: Reader
    header: bytes

    @property
    def place(self) -> object:
        return self.data.place

    def prefix(self) -> bytes:
        return self.header

    def chunks(self, begin: int, end: int) -> Iterator[Piece]:
        return self.data.chunks(begin, end)

    def parts(self, begin: int, end: int) -> Iterator[Part]:
        return self.data.parts(begin, end)

    def read(self, begin: int, end: int) -> bytes:
        return self.data.read(begin, end)

    def fill(self, buffer: memoryview, begin: int) -> None:
        self.data.fill(buffer, begin)
