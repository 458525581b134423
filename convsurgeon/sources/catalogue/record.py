"""One record of the catalogue: what the architectures that share a body say about each layer."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from math import prod
from typing import Any, Self

from convsurgeon.geometry import times
from convsurgeon.sources.catalogue.outline import Body, Member, Places, Subtree, partner

PATCHIFY = {"stride": "kernel"}
"""The outcome of separate patches, and of a 1x1."""
NARROW = "one input channel, which a grouped convolution stores too"


@dataclass(frozen=True, slots=True)
class Said:
    """One opinion about a layer, and the numbers of the architectures that hold it.

    Attributes:
        outcome: number of what is true of the layer.
        kernels: kernel sizes that it was seen with.
        architectures: who says so.
    """

    outcome: int
    kernels: frozenset[tuple[int, ...]]
    architectures: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """What is known about one element of a body.

    Attributes:
        said: every opinion; one where all agree.
        any_kernel: the stride was seen to follow the kernel.
        width: place and axis of the element that is as wide as the layer's input.
        narrow: a weight with one input channel was seen.
        fixed: the block numbers that never differed, `None` for those that did: the place in a
            sequence is not a block number.
        positions: for opinions that differ by block number: digest of all numbers -> outcomes.
    """

    said: tuple[Said, ...]
    any_kernel: bool = False
    width: tuple[int, int] | None = None
    narrow: bool = False
    fixed: tuple[int | None, ...] = ()
    positions: Mapping[str, tuple[int, ...]] | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """What is known about a body: its architectures, and the slots by their place."""

    architectures: tuple[int, ...]
    slots: Mapping[int, Slot]

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Read what the catalogue keeps."""
        slots = {place: _slot(said, more) for place, said, more in data["s"]}
        return cls(tuple(data["a"]), slots)


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a record says about one layer.

    Attributes:
        said: the one opinion; None where there is no single one.
        why: the reason why there is none.
        others: the opinions that contradict each other.
    """

    said: Said | None
    why: str = ""
    others: tuple[Said, ...] = ()


def judge(slot: Slot, subtree: Subtree, body: Body, element: str, member: Member) -> Opinion:
    """Ask a slot about one tensor of a checkpoint.

    Args:
        slot: of the record.
        subtree: of the checkpoint, that has the body.
        body: that the record is about.
        element: of the layer, relative to the subtree.
        member: the layer's tensor: `[O, C, *kernel]`.
    """
    if reason := _misfit(slot, subtree, body, member):
        return Opinion(None, reason)
    if len(slot.said) == 1:
        return _of_one(slot, member.shape)
    own = member.numbers[subtree.depth :]
    return _of_several(slot, member.shape[2:], subtree.places(element), own)


def _of_one(slot: Slot, shape: tuple[int, ...]) -> Opinion:
    only, kernel = slot.said[0], shape[2:]
    if kernel in only.kernels or (slot.any_kernel and not _turned(shape, only.kernels)):
        return Opinion(only)
    seen = ", ".join(sorted(times(k) for k in only.kernels))
    return Opinion(None, f"known with kernel {seen}, not with {times(kernel)}")


def _turned(shape: tuple[int, ...], known: frozenset[tuple[int, ...]]) -> bool:
    """Tell whether a weight looks stored in another order of axes than `[O, C, *kernel]`.

    Known kernels are square; this is, in `[O, *kernel, C]` or `[*kernel, C, O]` and only there.
    """
    return not _like(shape[2:], known) and any(_like(k, known) for k in (shape[1:-1], shape[:-2]))


def _like(kernel: tuple[int, ...], known: frozenset[tuple[int, ...]]) -> bool:
    """Tell whether those axes are equal that are equal in every known kernel."""
    pairs = combinations(range(len(kernel)), 2)
    return all(kernel[a] == kernel[b] for a, b in pairs if all(k[a] == k[b] for k in known))


def _of_several(
    slot: Slot, kernel: tuple[int, ...], places: Places, own: tuple[int, ...]
) -> Opinion:
    """Choose by the kernel, else by the block number among all the numbers of the slot."""
    fitting = [said for said in slot.said if kernel in said.kernels]
    if len(fitting) == 1:
        return Opinion(fitting[0])
    told = (slot.positions or {}).get(places.digest)
    if told is not None:
        outcome = told[bisect_left(places.numbers, own)]
        said = next(said for said in slot.said if said.outcome == outcome)
        if kernel in said.kernels:  # else a place that others know holds another layer here
            return Opinion(said)
    if fitting:
        return Opinion(None, "the architectures disagree", tuple(fitting))
    return Opinion(None, f"not known with kernel {times(kernel)}")


def _slot(said: list[Any], more: Mapping[str, Any]) -> Slot:
    return Slot(
        tuple(Said(o, frozenset(map(tuple, kernels)), tuple(who)) for o, kernels, who in said),
        any_kernel="k" in more,
        width=tuple(more["w"]) if "w" in more else None,
        narrow="n" in more,
        fixed=tuple(more.get("i", ())),
        positions={k: tuple(v) for k, v in more["p"].items()} if "p" in more else None,
    )


def _misfit(slot: Slot, subtree: Subtree, body: Body, member: Member) -> str:
    """Return why a layer's place or input channels speak against the slot; empty where they don't.

    Groups are invisible in a shape: `Conv2d(8, 16, 4, groups=4)` stores what `Conv2d(2, 16, 4)`
    stores. The width of the layer's neighbours shows them.
    """
    inputs = member.shape[1]
    pairs = zip(slot.fixed, member.numbers[subtree.depth :], strict=False)
    if any(known is not None and known != number for known, number in pairs):
        return "known at another place of its sequence"
    if slot.width:
        place, axis = slot.width
        expected = partner(member, subtree.members(body.elements[place])).shape[axis]
        return "" if inputs == expected else f"{inputs} input channels where {expected} are known"
    if inputs == 1 == prod(member.shape[2:]) and not slot.narrow:
        return NARROW
    return ""
