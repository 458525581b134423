"""Calls of the system that fail."""

from __future__ import annotations

import os
from collections.abc import Callable


def fail_at(name: str, number: int) -> Callable[..., object]:
    real, calls = getattr(os, name), iter(range(1000))

    def call(*arguments: object) -> object:
        if next(calls) == number:
            raise OSError(5, "Input/output error")
        return real(*arguments)

    return call
