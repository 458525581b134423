"""What is true about a damaged file, found without the package that is tested.

The undamaged file is known: `cases.swapped`, with the record that the swap wrote. Everything else
follows from a comparison of two values, and of the numbers where elements differ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

import numpy as np

from mutation.cases import Case
from mutation.content import RECIPE, Content, unpack
from mutation.floats import Floats, codes, values
from mutation.folders import INDEX
from mutation.kind import Files


class Truth(Enum):
    """What a damaged file is."""

    SAME = "the same"
    """The damage hit nothing: equal elements were exchanged, a zero was set to zero."""
    SAME_FUNCTION = "the same function"
    """Of weights or biases only payloads of NaN and signs of zeros and NaN are others."""
    OTHER_FUNCTION = "another function"
    """A weight or a bias has another number somewhere; all else is equal."""
    OTHER_FILE = "another file"
    """Names, shapes, dtypes, metadata or another tensor's bytes are others."""
    OTHER_RECORD = "another record"
    """The record of the swap says something that the original contradicts."""
    OTHER_CLAIM = "another claim"
    """The record says something else that no tensor contradicts: a verdict holds given it.

    So does the `metadata` of an index, which no loader of tensors reads, and which is often wrong.
    """
    NO_FILE = "no file"
    """It breaks the rules of the format."""


class Finding(NamedTuple):
    """What is true about a damaged file.

    Attributes:
        truth: what it is.
        weights: whether an element of a rewritten weight is another, in a file of equal frame.
    """

    truth: Truth
    weights: bool = False


def find(expected: Content, of: Case, file: bytes) -> Finding:
    """Return what a damaged file is.

    Args:
        expected: the undamaged one, with its record.
        of: its case.
        file: the damaged one.
    """
    try:
        found = unpack(file)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Finding(Truth.NO_FILE)
    layers = {*of.weights, *of.biases}
    if _frame(found, layers) != _frame(expected, layers):
        return Finding(Truth.OTHER_FILE)
    record = _record(expected.metadata[RECIPE], found.metadata.get(RECIPE), of)
    if record is not Truth.SAME:
        return Finding(record)
    changed = [name for name in layers if expected.tensors[name] != found.tensors[name]]
    if not changed:
        return Finding(Truth.SAME)
    one, other = _numbers(expected, changed), _numbers(found, changed)
    alike = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(one, other, strict=True))
    truth = Truth.SAME_FUNCTION if alike else Truth.OTHER_FUNCTION
    return Finding(truth, not set(changed).isdisjoint(of.weights))


def _numbers(content: Content, names: list[str]) -> list[Floats]:
    tensors = [content.tensors[name] for name in names]
    return [values(codes(t.data, t.dtype), t.dtype) for t in tensors]


def find_in_folder(before: Files, after: Files, files: Files) -> Finding:
    """Return what a damaged folder is: any other byte of a shard makes it another.

    A shard that was not swapped is one that equals the original; a loader sees from its record,
    which it has not, that it is in its old form.
    """
    if files.keys() != after.keys():
        return Finding(Truth.OTHER_FILE)
    shards = [name for name in after if name != INDEX]
    if any(files[name] not in (before[name], after[name]) for name in shards):
        return Finding(Truth.OTHER_FILE)
    try:
        old, new = json.loads(after[INDEX]), json.loads(files[INDEX])
    except ValueError:
        return Finding(Truth.OTHER_FILE)
    if old["weight_map"] != new["weight_map"]:
        return Finding(Truth.OTHER_FILE)
    return Finding(Truth.SAME if old == new else Truth.OTHER_CLAIM)


def _frame(content: Content, layers: set[str]) -> object:
    """Return all but the elements of the layers and the record."""
    tensors = {n: t._replace(data=b"") if n in layers else t for n, t in content.tensors.items()}
    metadata = {key: value for key, value in content.metadata.items() if key != RECIPE}
    return tensors, metadata


# What no file can contradict: names, and what the verdict is given. Padding, dilation and groups
# are not among them: a convolution that has them is not the other form, whatever the numbers are.
_CLAIMS = ("tool",)
_CLAIMS_OF_ORIGINAL = ("name", "dropped")
_CLAIMS_OF_STEP = ("rule", "evidence")


def _record(expected: str, found: str | None, of: Case) -> Truth:
    if found == expected:
        return Truth.SAME
    try:
        old, new = json.loads(expected), json.loads(found or "")
        if old == new:
            return Truth.SAME
        claims_only = _facts(old, of) == _facts(new, of)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Truth.OTHER_RECORD
    return Truth.OTHER_CLAIM if claims_only else Truth.OTHER_RECORD


def _facts(record: dict[str, Any], of: Case) -> object:
    """Return what a record says that the original can contradict."""
    original = _without(record["original"], _CLAIMS_OF_ORIGINAL)
    steps = [_without(step, _CLAIMS_OF_STEP) for step in record["steps"]]
    for step in steps:
        step["geometry"] = _without(step["geometry"], ("stride",))
        if max(of.conv[2:]) == 1:
            step["geometry"].pop("dilation")  # of a window of one position
        if of.conv[1] == 1 or max(of.conv[2:]) == 1:
            step.pop("layout")  # both are one order
    return {**_without(record, _CLAIMS), "original": original, "steps": steps}


def _without(content: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in names}
