"""The limits on headers, apart from the code that applies them: the command line shows them."""

from __future__ import annotations

from typing import Final

FORMAT_MAX_HEADER: Final = 100_000_000
"""The format's own limit in bytes (`MAX_HEADER_SIZE` of the reference)."""

DEFAULT_MAX_HEADER: Final = 25_000_000
"""What is accepted without being asked: as much as the Hub's own reader accepts."""
