"""On what a verdict was found, about which bytes, and how it agrees with an earlier one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Digest:
    """One whole file.

    Attributes:
        name: of the file.
        bytes: its size.
        sha256: of all its bytes, in hexadecimal, as `sha256sum` prints it.
    """

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class FileDigest(Digest):
    """One file of a checkpoint.

    Attributes:
        sidecar: of the file beside it that holds its recipe; None where it has none.
    """

    sidecar: Digest | None = None


@dataclass(frozen=True, slots=True)
class Environment:
    """What a verdict was found with.

    Attributes:
        convsurgeon: its version.
        python: its version.
        torch: its version; empty where it was not needed.
        system: operating system and processor.
        threads: that torch computes with; 0 where it was not needed.
    """

    convsurgeon: str
    python: str
    torch: str
    system: str
    threads: int


@dataclass(frozen=True, slots=True)
class ReceiptCheck:
    """How a verdict agrees with the receipt of an earlier one.

    Attributes:
        path: of the receipt.
        agreed: how many of its facts were found again.
        differences: facts that are otherwise now, one line each.
        remarks: what may differ between machines, and does: versions, threads, rounding errors.
    """

    path: str
    agreed: int
    differences: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
