"""Carry a plan out, and take it back: bytes in, bytes out."""

from convsurgeon.rewrite.output import Output
from convsurgeon.rewrite.swap import swapped
from convsurgeon.rewrite.undo import undone

__all__ = ["Output", "swapped", "undone"]
