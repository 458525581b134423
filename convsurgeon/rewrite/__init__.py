"""Carry a plan out, and take it back: bytes in, bytes out."""

from convsurgeon.rewrite.in_place import NewHeader, swapped_header, undone_header
from convsurgeon.rewrite.output import Output
from convsurgeon.rewrite.swap import swapped
from convsurgeon.rewrite.undo import undone

__all__ = ["NewHeader", "Output", "swapped", "swapped_header", "undone", "undone_header"]
