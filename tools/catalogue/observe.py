"""One row of the zoo -> what each of its layers teaches about names like its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from convsurgeon.sources.catalogue.outline import (
    Body,
    Member,
    Outline,
    Tensor,
    partner,
    prefixes,
)

CONV_RANKS = (3, 4, 5)
_NEAREST = 12
"""Tensors whose width is compared with a layer's input channels: the nearest ones by name."""
_DTYPES = {
    "float64": "F64",
    "float32": "F32",
    "float16": "F16",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "complex64": "C64",
    "int64": "I64",
    "int32": "I32",
    "int16": "I16",
    "int8": "I8",
    "uint8": "U8",
    "bool": "BOOL",
}

_CHANNEL_AXES = 2
_FEW = 4

Width = tuple[str, int]
"""An element and one of its axes."""


@dataclass(frozen=True, slots=True)
class Slot:
    """What one architecture teaches about one element.

    Attributes:
        outcomes: per tensor, in the order of their numbers: the outcome as canonical JSON.
        kernels: per tensor.
        indices: per tensor: its numbers.
        inputs: every number of input channels.
        widths: elements and axes that are as wide as the input, in every tensor of the slot.
        follows: whether the code takes stride and kernel from the same place.
    """

    outcomes: tuple[str, ...]
    kernels: tuple[tuple[int, ...], ...]
    indices: tuple[tuple[int, ...], ...]
    inputs: frozenset[int]
    widths: frozenset[Width]
    follows: bool


@dataclass(frozen=True, slots=True)
class Lesson:
    """One architecture's slots below one body of one of its modules."""

    prefix: str
    body: Body
    slots: Mapping[str, Slot]


def dtype_code(name: str) -> str:
    """Return a torch dtype's name as a safetensors header spells it."""
    return _DTYPES[name.removeprefix("torch.")]


def outline_of(row: Mapping[str, Any]) -> Outline:
    """Return the outline of the checkpoint that a row describes."""
    return Outline.of(tensors_of(row))


def tensors_of(row: Mapping[str, Any]) -> Iterator[Tensor]:
    """Return the tensors that a row describes."""
    for key, (dtype, shape) in row["tensors"].items():
        yield Tensor(key, dtype_code(dtype), tuple(shape))


def lessons(row: Mapping[str, Any]) -> Iterator[Lesson]:
    """Return what a row teaches, once for each module that is large enough to be recognised."""
    outline = outline_of(row)
    slots = _slots(row, outline)
    for prefix in sorted({p for element in slots for p in prefixes(element)}):
        cut = len(prefix) + 1 if prefix else 0
        under = {e[cut:]: s for e, s in slots.items() if not prefix or e.startswith(prefix + ".")}
        for body in outline.subtree(prefix).bodies:
            known = {e: _within(s, prefix) for e, s in under.items() if body.place(e) is not None}
            if known:
                yield Lesson(prefix, body, known)


def outcome(conv: Mapping[str, Any] | None, out_channels: int) -> str:
    """Return what is true of a layer apart from its kernel, as canonical JSON.

    `{"stride": "kernel"}` stands for every layer that is a patchify or a pointwise conv.
    """
    return json.dumps(_outcome(conv, out_channels), sort_keys=True, separators=(",", ":"))


def _outcome(conv: Mapping[str, Any] | None, out_channels: int) -> dict[str, Any]:
    if conv is None:
        return {"other": "a module that is no torch convolution"}
    name = conv["type"].rpartition(".")[2]
    if conv["parametrized"]:
        return {"computed": name}
    if not conv["type"].startswith("torch.nn.") or conv["overrides_forward"]:
        return {"subclass": name}
    return {"stride": "kernel"} if conv["eligible"] else _geometry(conv, out_channels)


def _geometry(conv: Mapping[str, Any], out_channels: int) -> dict[str, Any]:
    axes = len(conv["kernel"])
    padding = [0] * axes if conv["padding"] == "valid" else conv["padding"]
    if padding == "same":
        return {"same": True}
    if conv["padding_mode"] != "zeros" and any(padding):
        return {"mode": conv["padding_mode"]}
    groups = "out" if 1 < conv["groups"] == out_channels else conv["groups"]
    said = {"stride": conv["stride"], "padding": padding, "dilation": conv["dilation"]}
    return {**said, "groups": groups, "transposed": conv["transposed"]}


def _slots(row: Mapping[str, Any], outline: Outline) -> dict[str, Slot]:
    convs = {conv["key"]: conv for conv in row["convs"]}
    keys: dict[str, list[str]] = {}
    for key, element in outline.of_key.items():
        rank = int(element.rpartition(" ")[2])
        if rank in CONV_RANKS and (key in convs or key.rpartition(".")[2] == "weight"):
            keys.setdefault(element, []).append(key)
    return {element: _slot(outline, element, found, convs) for element, found in keys.items()}


def _slot(outline: Outline, element: str, keys: list[str], convs: Mapping[str, Any]) -> Slot:
    pairs = sorted((outline.by_key[key], key) for key in keys)
    members = [member for member, _ in pairs]
    found = [convs.get(key) for _, key in pairs]
    return Slot(
        tuple(outcome(c, m.shape[0]) for c, m in zip(found, members, strict=True)),
        tuple(m.shape[2:] for m in members),
        tuple(m.numbers for m in members),
        frozenset(m.shape[1] for m in members),
        frozenset(_widths(outline, element, members)),
        all(_follows(conv) for conv in found),
    )


def _follows(conv: Mapping[str, Any] | None) -> bool:
    if conv is None or not conv["eligible"] or not (source := conv.get("from")):
        return False
    same = source["kernel"] == source["stride"]
    return same and all(isinstance(part, dict) for part in source["kernel"])


def _within(slot: Slot, prefix: str) -> Slot:
    """Return a slot with only those widths that stand below a module, relative to it."""
    if not prefix:
        return slot
    cut, start = len(prefix) + 1, prefix + "."
    widths = frozenset((e[cut:], axis) for e, axis in slot.widths if e.startswith(start))
    depth = prefix.count("*")
    return replace(slot, widths=widths, indices=tuple(i[depth:] for i in slot.indices))


def _widths(outline: Outline, element: str, members: list[Member]) -> Iterator[Width]:
    if min(m.shape[1] for m in members) <= _FEW:
        return  # the channels of an image: no width, and equal to a kernel by chance
    for other in _nearest(outline, element):
        theirs = outline.members[other]
        for axis in range(min(_CHANNEL_AXES, len(theirs[0].shape))):
            if all(m.shape[1] == partner(m, theirs).shape[axis] for m in members):
                yield other, axis


def _nearest(outline: Outline, element: str) -> list[str]:
    others = [e for e in outline.elements if e != element]
    return sorted(others, key=lambda e: (-_common(e, element), e))[:_NEAREST]


def _common(one: str, other: str) -> int:
    count = 0
    for a, b in zip(one.split("."), other.split("."), strict=False):
        if a != b:
            break
        count += 1
    return count
