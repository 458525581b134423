"""What a library made of a checkpoint: the model, and everything that speaks against it."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model that its own library loaded.

    Attributes:
        model: in evaluation mode; None where the library refused the file.
        source: the library, its version and the model's class: `transformers 5.23.0: ViTModel`.
        complaints: what was left out, put in or made up, one line each. Names in them are those of
            the file or of the model, as they are: whoever shows them escapes them.
    """

    model: nn.Module | None
    source: str
    complaints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One load, and what the library said of it.

    Attributes:
        source: see `Loaded`.
        model: see `Loaded`.
        missing: names that the model has and the file has not.
        unexpected: names of the file that the model did not take.
        mismatched: a name, its shape in the file and its shape in the model.
        failed: whatever else went wrong, one line each.
        may_lack: patterns of names that the library says a file need not hold.
    """

    source: str
    model: nn.Module | None
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[tuple[str, Shape, Shape], ...] = ()
    failed: tuple[str, ...] = ()
    may_lack: tuple[str, ...] = ()


def complaints(attempt: Attempt, made_up: Collection[str]) -> tuple[str, ...]:
    """Say everything that speaks against a load, each name once, in a fixed order.

    Args:
        attempt: the load.
        made_up: names of the model whose values do not come from the file (see `provenance`).
    """
    found = {
        name: f"{name} has shape {list(theirs)} in the file, {list(ours)} in the model"
        for name, theirs, ours in sorted(attempt.mismatched)
    }
    for name in sorted(attempt.missing):
        found.setdefault(name, f"{name} is newly initialised: the file has no such tensor")
    may_lack = [re.compile(pattern) for pattern in attempt.may_lack]
    for name in sorted(made_up):
        if not any(pattern.search(name) for pattern in may_lack):
            text = f"{name} is newly initialised: not all its values come from the file"
            found.setdefault(name, text)
    unused = (f"{name} in the file is not used by the model" for name in sorted(attempt.unexpected))
    return (*attempt.failed, *found.values(), *unused)
