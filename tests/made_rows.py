"""Small architectures as rows of the zoo, and the catalogue that they teach."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from convsurgeon.evidence import Statement
from convsurgeon.sources.catalogue.fingerprint import FingerprintSpeaker
from convsurgeon.sources.catalogue.outline import Tensor
from convsurgeon.sources.catalogue.record import Record
from tools.catalogue.compile import entries

Shape = tuple[int, ...]
Row = dict[str, Any]
Shapes = Mapping[str, Shape]

FILLER: Shapes = {f"blocks.0.{name}": (5, 5) for name in ("q", "k", "v", "o", "up", "down")}
"""Enough names for a body, of a width that no layer has by chance."""


def conv(stride: int, padding: int = 0, dilation: int = 1, groups: int = 1, **more: Any) -> Row:
    """What a row says of a conv, apart from its name and kernel."""
    return {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, **more}


def row(
    name: str, convs: Mapping[str, tuple[Shape, Row]], *, family: str = "", rest: Shapes = FILLER
) -> Row:
    """A row as tools/zoo writes it.

    Args:
        name: of the architecture.
        convs: key -> weight shape and what `conv` returns.
        family: the name, where none is given.
        rest: other tensors.
    """
    tensors = {key: shape for key, (shape, _) in convs.items()} | dict(rest)
    return {
        "source": "torchvision",
        "version": "0.28.0",
        "name": name,
        "family": family or name,
        "cls": "Net",
        "config": None,
        "tensors": {key: ["float32", list(shape)] for key, shape in tensors.items()},
        "convs": [_conv(key, shape[2:], told) for key, (shape, told) in convs.items()],
    }


def _conv(key: str, kernel: Shape, told: Row) -> Row:
    axes = len(kernel)
    numbers = {n: [told[n]] * axes for n in ("stride", "padding", "dilation")}
    plain = numbers["padding"] == [0] * axes and told["groups"] == 1
    exact = told.keys() <= {"stride", "padding", "dilation", "groups", "from"}
    dilated = any(d > 1 and k > 1 for d, k in zip(numbers["dilation"], kernel, strict=True))
    found = {
        "module": key.removesuffix(".weight"), "key": key, "type": f"torch.nn.Conv{axes}d",
        "kernel": list(kernel), "bias": False, "padding_mode": "zeros", "transposed": False,
        "parametrized": False, "overrides_forward": False,
        "eligible": numbers["stride"] == list(kernel) and plain and exact and not dilated,
    }  # fmt: skip
    return {**found, **told, **numbers}


class Small:
    """The catalogue that some rows teach, by the way that leads to the packaged one."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.table = json.loads(json.dumps(entries(rows)))

    def record(self, digest: str) -> Record | None:
        found = self.table.get(f"body:{digest}")
        return Record.of(found) if found else None

    def outcome(self, number: int) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.table["outcomes"][number]
        return found

    def architecture(self, number: int) -> str:
        return str(self.table["architectures"][number])


def ask(rows: Iterable[Row] | Small, shapes: Shapes, key: str) -> Statement | None:
    """What the rows say about a weight of a checkpoint."""
    tensors = [Tensor(name, "F32", shape) for name, shape in shapes.items()]
    catalogue = rows if isinstance(rows, Small) else Small(rows)
    return FingerprintSpeaker(lambda: tensors, catalogue).about(key, shapes[key])


def shapes_of(made: Row) -> dict[str, Shape]:
    """The tensors of a row."""
    return {key: tuple(shape) for key, (_, shape) in made["tensors"].items()}


def said(rows: Iterable[Row] | Small, shapes: Shapes, key: str) -> str:
    """The same in words: what is said, why nothing is, or nothing."""
    found = ask(rows, shapes, key)
    if found is None:
        return "unknown"
    return found.details[1] if found.failed else found.says()
