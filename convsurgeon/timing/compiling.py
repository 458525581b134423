"""torch.compile for every form of a layer, where there is a compiler."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from convsurgeon.timing.device import said
from convsurgeon.timing.forms import Run

if TYPE_CHECKING:
    from torch import Tensor

_VERSIONS = 64
"""More than one layer has forms, outputs and passes. They are versions of one function to the
compiler, which keeps 8 by default and then runs the others as they are."""


@contextmanager
def compiling(wanted: bool) -> Iterator[Callable[[Run], Run]]:
    """Give what is to be done with a function before it is called: compile it, or nothing.

    Each layer begins with an empty cache, so that its sizes are constants to the compiler as those
    of a model with one layer are.
    """
    if not wanted:
        yield _as_it_is
        return
    import torch
    from torch._dynamo import config

    torch.compiler.reset()
    with config.patch(recompile_limit=_VERSIONS):
        yield partial(torch.compile, fullgraph=True, dynamic=False)


def compiler_trouble(device: str) -> str:
    """Compile one addition; return why that fails, or nothing."""
    import torch

    x = torch.zeros(2, device=device)
    try:
        torch.compile(_plus_one, fullgraph=True)(x)
    except Exception as error:  # noqa: BLE001 - every backend raises its own
        return said(error)
    return ""


def _plus_one(x: Tensor) -> Tensor:
    return x + 1


def _as_it_is(run: Run) -> Run:
    return run
