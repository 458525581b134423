"""Names of tensors with their block numbers taken out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice

# A whole component, or the end of `encoder_layer_11`. More digits are no block number; int() of a
# name of a million digits would take seconds.
# What stands before it is asked behind its first digit: a search for digits is three times as fast.
_NUMBERS = re.compile(
    r"([0-9](?:(?<![^.\n][0-9])|(?<=_layer_[0-9]))[0-9]{0,8}(?![^.\n]))", re.ASCII
)


def fold(name: str) -> tuple[str, tuple[int, ...]]:
    """Return one name with its block numbers as `*`, and the numbers."""
    name = _plain(name)
    return _NUMBERS.sub("*", name), tuple(map(int, _NUMBERS.findall(name)))


def fold_all(names: Sequence[str]) -> tuple[list[str], list[tuple[int, ...]]]:
    """Return what `fold` returns for each name, without the `base_layer` of an adapter's base.

    All at once, one name a line: a hundred thousand calls would take longer than the work.
    """
    text = "\n".join([_plain(name) for name in names]).replace(".base_layer.", ".")
    pieces = _NUMBERS.split(text)  # text, number, text, ...
    folded = "*".join(pieces[::2]).split("\n") if names else []
    numbers = map(int, pieces[1::2])
    return folded, [tuple(islice(numbers, name.count("*"))) for name in folded]


def _plain(name: str) -> str:
    """Return a name of one line and without `*`, which stands for a folded number only."""
    if "*" in name or "\n" in name:
        return name.replace("*", "\\x2a").replace("\n", "\\n")
    return name
