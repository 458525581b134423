"""The public functions, one module each."""

from convsurgeon.api.choices import Choices, Request
from convsurgeon.api.reports import RestoredFile, RestoreReport, SwappedFile, SwapReport
from convsurgeon.api.restoring import restore
from convsurgeon.api.scanning import scan
from convsurgeon.api.swapping import swap
from convsurgeon.api.verifying import verify
from convsurgeon.api.work import Progress

__all__ = [
    "Choices",
    "Progress",
    "Request",
    "RestoreReport",
    "RestoredFile",
    "SwapReport",
    "SwappedFile",
    "restore",
    "scan",
    "swap",
    "verify",
]
