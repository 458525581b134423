"""The table of what the drop-ins work with, as data: `docs/reference/compatibility.toml`.

A test takes the kinds that it runs for from its row, so that a cell cannot say what no test says:
`@works(row)` runs for each kind whose cell says "ok", `@fails(row)` for each whose cell says "no".
`tests/test_matrix_page.py` holds rows and tests against each other.
"""

from __future__ import annotations

from typing import Any

import pytest

import convsurgeon as cs
from tools.compatibility import TABLE, read

ROWS = read(TABLE.read_text(encoding="utf-8"))


def works(row: str) -> pytest.MarkDecorator:
    """Run a test for the kinds for which this row says "ok"."""
    return pytest.mark.parametrize("kind", ROWS[row].kinds("ok"))


def fails(row: str) -> pytest.MarkDecorator:
    """Run a test, which pins a failure, for the kinds for which this row says "no"."""
    return pytest.mark.parametrize("kind", ROWS[row].kinds("no"))


def swapped(model: Any, kind: str) -> Any:
    """Put a drop-in into the place of each layer that may have one; leave the model for "conv"."""
    if kind != "conv":
        assert cs.swap_module(model, kind=kind).files[0].rewrites
    return model
