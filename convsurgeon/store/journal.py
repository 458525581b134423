"""The undo journal of a swap in place: `FILE.convsurgeon-journal`.

It holds both things that each file may be: its header and sidecar before, and after. The journal of
the first file, the leader, is the transaction: it lasts as long as that journal exists. The others
have one that only names the leader, so that whoever opens any of the files finds it.

A journal is read from a disk that may have failed, beside a file that may have been copied here
from elsewhere; nothing in it is acted on before all of it is checked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from convsurgeon.bounded_json import object_of
from convsurgeon.errors import ConvsurgeonError
from convsurgeon.header import Header, parse
from convsurgeon.header.parse import LENGTH_BYTES
from convsurgeon.limits import FORMAT_MAX_HEADER
from convsurgeon.store.sidecar import Sidecar
from convsurgeon.untrusted import is_file_name

SUFFIX = ".convsurgeon-journal"
_MAGIC = b"convsurgeon-journal/1 "
_DIGEST = 64
MAX_BYTES = 1 << 28
"""What a journal may hold: the headers of all files of a transaction, twice."""


def journal_of(path: Path) -> Path:
    """Return where the journal of a file lies, while it has one."""
    return path.with_name(f"{path.name}{SUFFIX}")


@dataclass(frozen=True, slots=True)
class State:
    """One of the two things that a file may be.

    Attributes:
        prefix: its length and header.
        sidecar: the bytes of its sidecar; None where it has none.
    """

    prefix: bytes
    sidecar: bytes | None

    def header(self, size: int) -> Header:
        """Return the header, for a file of this size.

        Raises:
            ConvsurgeonError: where it is none, or the sidecar belongs to another file.
            ValueError: where its length is not what it says.
        """
        length = int.from_bytes(self.prefix[:LENGTH_BYTES], "little")
        if len(self.prefix) != LENGTH_BYTES + length or length > FORMAT_MAX_HEADER:
            raise ValueError("a header has another length than it says")
        if self.sidecar is not None:
            sidecar = Sidecar.parse(self.sidecar)
            if not sidecar.belongs_to(self.prefix, size):
                raise ValueError("a sidecar belongs to another file")
        return parse(self.prefix[LENGTH_BYTES:], size - len(self.prefix))


@dataclass(frozen=True, slots=True)
class Member:
    """One file of a transaction.

    Attributes:
        name: in the folder of the journal.
        inode: by which a copy is told from the file itself. Its device is not recorded: many have
            another number after the next start of the system, which is when a journal is needed.
        size: in bytes; never changes.
        old: what the file was.
        new: what it is to become; its header has the same length.
    """

    name: str
    inode: int
    size: int
    old: State
    new: State

    def check(self) -> None:
        """Raise ValueError, or a ConvsurgeonError, unless both headers are of the same data."""
        if len(self.old.prefix) != len(self.new.prefix):
            raise ValueError("the two headers differ in length")
        if not self.old.header(self.size).same_data(self.new.header(self.size)):
            raise ValueError("the two headers describe different data")


@dataclass(frozen=True, slots=True)
class Journal:
    """A transaction, or the way to it.

    Attributes:
        leader: the file whose journal is the transaction.
        members: every file; none where this is the journal of another than the leader.
    """

    leader: str
    members: tuple[Member, ...] = ()

    def to_bytes(self) -> bytes:
        """Return the content of the file: digest, description, then headers and sidecars.

        Raises:
            ValueError: where that is more than `MAX_BYTES`.
        """
        rows = [
            {
                "name": member.name,
                "inode": member.inode,
                "size": member.size,
                "lengths": [None if blob is None else len(blob) for blob in _blobs(member)],
            }
            for member in self.members
        ]
        text = json.dumps({"leader": self.leader, "members": rows}).encode() + b"\n"
        blobs = (blob for member in self.members for blob in _blobs(member) if blob)
        body = b"".join((text, *blobs))
        content = b"".join((_MAGIC, hashlib.sha256(body).hexdigest().encode(), b"\n", body))
        if len(content) > MAX_BYTES:
            raise ValueError(f"the headers are too large for one journal of {MAX_BYTES} bytes")
        return content

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Read what `to_bytes` wrote, and check it.

        Raises:
            ValueError: where it is anything else.
        """
        begin = len(_MAGIC) + _DIGEST + 1
        body = memoryview(text)[begin:]  # headers may be large: no copies
        head = b"".join((_MAGIC, hashlib.sha256(body).hexdigest().encode(), b"\n"))
        if text[:begin] != head:
            raise ValueError("its digest does not hold")
        end = text.find(b"\n", begin)
        try:
            content = object_of(text[begin:end])
            blobs = memoryview(text)[end + 1 :]
            journal = cls(content["leader"], tuple(_members(content["members"], blobs)))
            journal.check_names()
            for member in journal.members:
                member.check()
        except (KeyError, TypeError, AttributeError, ConvsurgeonError) as error:
            raise ValueError(str(error)) from None
        return journal

    def check_names(self) -> None:
        """Raise ValueError unless all files are files of one folder, and the leader is the first.

        Whoever writes a journal knows the headers; whoever reads one checks them as well.
        """
        names = [member.name for member in self.members]
        if not all(map(is_file_name, (self.leader, *names))):
            raise ValueError("a name is no file name")
        if len(set(names)) != len(names) or (names and names[0] != self.leader):
            raise ValueError("its files are listed wrongly")


def _blobs(member: Member) -> tuple[bytes | None, ...]:
    old, new = member.old, member.new
    return old.prefix, new.prefix, old.sidecar, new.sidecar


def _members(rows: list[dict[str, Any]], blobs: memoryview) -> Iterator[Member]:
    done = 0
    for row in rows:
        found: list[bytes | None] = []
        for length in row["lengths"]:
            found.append(None if length is None else bytes(blobs[done : done + length]))
            done += length or 0
        before, after, old, new = found
        if before is None or after is None:
            raise ValueError("a header is missing")
        yield Member(row["name"], row["inode"], row["size"], State(before, old), State(after, new))
    if done != len(blobs):
        raise ValueError("it has another length than it says")
