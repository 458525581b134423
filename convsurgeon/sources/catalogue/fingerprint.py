"""The weakest evidence: the whole header is that of known architectures, and all of them agree."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from math import prod

from convsurgeon.evidence import Level, Statement
from convsurgeon.geometry import Refusal, conv_form
from convsurgeon.rules import obstacles
from convsurgeon.sources.catalogue.outcome import Meaning, meaning
from convsurgeon.sources.catalogue.outline import Body, Member, Outline, Subtree, Tensor, prefixes
from convsurgeon.sources.catalogue.packaged import PACKAGED, Catalogue
from convsurgeon.sources.catalogue.record import NARROW, PATCHIFY, Opinion, Record, Slot, judge

_CONV_RANKS = (3, 4, 5)
_SHOWN = 8
"""Architectures that are listed by name, of each opinion."""


@dataclass(frozen=True)
class FingerprintSpeaker:
    """What known architectures say about a checkpoint whose names are theirs.

    A layer is looked up in the largest module around it that the catalogue knows: the whole model,
    or one of its parts (a backbone, one of two towers, an EMA copy).

    Attributes:
        tensors: gives the checkpoint's tensors, in the shapes that they had before any swap; asked
            with the first question about a conv-like weight, as is the catalogue.
        catalogue: what is known; another one to measure what is found without a family.
    """

    tensors: Callable[[], Iterable[Tensor]] = field(repr=False)
    catalogue: Catalogue = PACKAGED

    def about(self, key: str, shape: tuple[int, ...]) -> Statement | None:
        """Return what was inferred about the weight under `key`; see `Speaker`."""
        if len(shape) not in _CONV_RANKS:
            return None
        found = self._found(key)
        return None if found is None else found.statement(shape)

    @cached_property
    def _outline(self) -> Outline:
        return Outline.of(self.tensors())

    @cached_property
    def _subtrees(self) -> dict[str, Subtree]:
        return {}

    def _subtree(self, prefix: str) -> Subtree:
        found = self._subtrees.get(prefix)
        if found is None:
            found = self._subtrees[prefix] = self._outline.subtree(prefix)
        return found

    def _found(self, key: str) -> _Found | None:
        element = self._outline.of_key.get(key)
        if element is None:
            return None
        member = self._outline.by_key[key]
        for subtree, body, record in self._known(element):
            relative = element[len(subtree.prefix) + 1 :] if subtree.prefix else element
            place = body.place(relative)
            slot = None if place is None else record.slots.get(place)
            if slot is not None:
                opinion = judge(slot, subtree, body, relative, member)
                if self._may_be_grouped(opinion, slot, member):
                    opinion = Opinion(None, NARROW)
                return _Found(self.catalogue, subtree.prefix, record, opinion)
        return None

    def _may_be_grouped(self, opinion: Opinion, slot: Slot, member: Member) -> bool:
        """Tell whether a 1x1 over one channel is taken for a full one where others are not."""
        one = member.shape[1] == 1 == prod(member.shape[2:]) and len(slot.said) > 1
        said = opinion.said if one else None
        return said is not None and self.catalogue.outcome(said.outcome) == PATCHIFY

    def _known(self, element: str) -> Iterator[tuple[Subtree, Body, Record]]:
        for prefix in prefixes(element):
            subtree = self._subtree(prefix)
            for body in subtree.bodies:
                record = self.catalogue.record(body.digest)
                if record is not None:
                    yield subtree, body, record


@dataclass(frozen=True, slots=True)
class _Found:
    """The record that knows a layer, and what it says."""

    catalogue: Catalogue
    prefix: str
    record: Record
    opinion: Opinion

    def statement(self, shape: tuple[int, ...]) -> Statement:
        """Return it as evidence about a weight of this shape."""
        said = self.opinion.said
        who = said.architectures if said else self.record.architectures
        place = f"the tensors below {self.prefix}" if self.prefix else "the tensors of the file"
        details = [f"{place} are those of {_listed(self.catalogue, who)}"]
        if said:
            form, geometry, refusal = _meaning(self.catalogue, said.outcome, shape)
        else:
            form, geometry, refusal = conv_form(len(shape) - 2), None, self._shared_refusal(shape)
            details += [self.opinion.why, *self._sides(shape)]
        source = _shortly(self.catalogue, who)
        return Statement(Level.FINGERPRINT, source, form, geometry, refusal, tuple(details))

    def _shared_refusal(self, shape: tuple[int, ...]) -> Refusal | None:
        """Return the reason against a rewrite that all have who disagree about the geometry."""
        found = [refusal for _, _, refusal in self._meanings(shape) if refusal]
        codes = {refusal.code for refusal in found}
        if not found or len(found) < len(self.opinion.others) or len(codes) > 1:
            return None
        alike = len({refusal.reason for refusal in found}) == 1
        more = "" if alike else "; others that match differ, but none has separate patches"
        return Refusal(found[0].code, found[0].reason + more)

    def _meanings(self, shape: tuple[int, ...]) -> Iterator[Meaning]:
        """Return what each of those who disagree says, with what stands against a rewrite."""
        for side in self.opinion.others:
            form, geometry, refusal = _meaning(self.catalogue, side.outcome, shape)
            if geometry and form.startswith("conv_transpose"):
                refusal = Refusal("CS006", "a transposed convolution")
            elif geometry:
                refusal = obstacles(geometry)
            yield Meaning(form, geometry, refusal)

    def _sides(self, shape: tuple[int, ...]) -> Iterator[str]:
        for side in self.opinion.others:
            form, geometry, refusal = _meaning(self.catalogue, side.outcome, shape)
            says = Statement(Level.FINGERPRINT, "", form, geometry, refusal).says()
            yield f"{says}: {_listed(self.catalogue, side.architectures)}"


@lru_cache(maxsize=4096)
def _meaning(catalogue: Catalogue, outcome: int, shape: tuple[int, ...]) -> Meaning:
    return meaning(catalogue.outcome(outcome), shape)


@lru_cache(maxsize=1024)
def _shortly(catalogue: Catalogue, numbers: tuple[int, ...]) -> str:
    rest = len(numbers) - 1
    more = f" and {rest} more architectures" if rest > 1 else " and 1 more architecture"
    return catalogue.architecture(numbers[0]) + (more if rest else "")


@lru_cache(maxsize=1024)
def _listed(catalogue: Catalogue, numbers: tuple[int, ...]) -> str:
    rest = len(numbers) - _SHOWN
    listed = ", ".join(map(catalogue.architecture, numbers[:_SHOWN]))
    return listed + (f" and {rest} more" if rest > 0 else "")
