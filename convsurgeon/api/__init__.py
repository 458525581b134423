"""The public functions, one module each."""

from convsurgeon.api.choices import Choices, Request
from convsurgeon.api.loading import LoadReport, load
from convsurgeon.api.restoring import restore
from convsurgeon.api.scanning import scan
from convsurgeon.api.swapping import swap
from convsurgeon.api.verifying import verify
from convsurgeon.api.work import Progress

__all__ = [
    "Choices",
    "LoadReport",
    "Progress",
    "Request",
    "load",
    "restore",
    "scan",
    "swap",
    "verify",
]
