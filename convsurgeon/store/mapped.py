"""Where in a file memory lies that is mapped from it, by the system's own account."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_MAPS = Path("/proc/self/maps")


@dataclass(frozen=True, slots=True)
class Mapping:
    """Addresses of this process that show a file.

    Attributes:
        begin: the first address.
        end: behind the last one.
        offset: what place of the file the first one shows.
    """

    begin: int
    end: int
    offset: int


def mappings_of(fd: int) -> tuple[Mapping, ...]:
    """Return the mappings of an open file in this process; none where the system does not tell.

    Some file systems give a mapping another device number than the file; then none is found.
    """
    found = os.fstat(fd)
    file = (f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}", str(found.st_ino))
    lines: list[str] = []
    with suppress(OSError):
        # As bytes: the rest of a line is a path, in whatever encoding.
        lines = _MAPS.read_bytes().decode("ascii", "replace").splitlines()
    fields = (line.split(maxsplit=5) for line in lines)
    return tuple(_mapping(f) for f in fields if len(f) > 4 and (f[3], f[4]) == file)


def _mapping(fields: list[str]) -> Mapping:
    begin, end = (int(part, 16) for part in fields[0].split("-"))
    return Mapping(begin, end, int(fields[2], 16))


def place_of(address: int, count: int, mappings: tuple[Mapping, ...]) -> int | None:
    """Return where in the file `count` bytes from an address on lie, if they all do."""
    for mapping in mappings:
        if mapping.begin <= address and address + count <= mapping.end:
            return mapping.offset + address - mapping.begin
    return None
