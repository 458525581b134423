"""A checkpoint's names with block numbers folded, and the digests of its subtrees.

Two files of one architecture differ in depth, width, classes, prefix and adapters. What they share
is the set of folded names with their ranks, below some module. That set is what is looked up.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import NamedTuple, Self

from convsurgeon.sources.catalogue.folding import fold_all

MIN_ELEMENTS = 6
"""Smaller subtrees are alike in architectures that have nothing else in common."""
MAX_ELEMENTS = 20_000
"""More distinct folded names than any known architecture has; bounds the work on strange files."""
MAX_DEPTH = 16
"""More modules than any known architecture has above a tensor; bounds the work on strange names."""

HEADS = frozenset({
    "head", "heads", "head_dist", "head_drop", "fc", "fc_norm", "classifier", "score", "cls",
    "classification_head", "last_linear", "lm_head", "pre_logits", "logits",
})  # fmt: skip
"""First components of what fine-tuning replaces. No convolution below them is inferred from the
rest of the model."""
COPIES = frozenset(("ema", "ema_model", "model_ema"))
"""First components of averages of all weights that some trainers keep beside them."""

_INTEGERS = frozenset(("I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"))
_BUFFERS = frozenset(
    (
        *("running_mean", "running_var", "num_batches_tracked", "inv_freq", "attn_mask"),
        *("relative_position_index", "relative_coords_table", "position_ids"),
    )
)
_ADAPTERS = re.compile(
    r"(^|\.)(lora_[A-Za-z_]+|dora_[a-z_]+|hada_[a-z0-9_]+|alpha)(\.|$)", re.ASCII | re.MULTILINE
)
_DIGEST_BYTES, _POSITION_BYTES = 8, 6


class Tensor(NamedTuple):
    """One tensor: its name, dtype as a safetensors header spells it, and shape before any swap."""

    key: str
    dtype: str
    shape: tuple[int, ...]


class Member(NamedTuple):
    """A tensor behind a folded name: the numbers that were folded, and its shape."""

    numbers: tuple[int, ...]
    shape: tuple[int, ...]


class Places(NamedTuple):
    """The block numbers under which an element stands, in order, and their digest."""

    numbers: list[tuple[int, ...]]
    digest: str


@dataclass(frozen=True)
class Outline:
    """The folded names of a checkpoint.

    Attributes:
        elements: sorted texts `name rank`, each number that is a whole component as `*`.
        members: element -> its tensors, in the order of their numbers.
        of_key: file key -> its element.
        by_key: file key -> its tensor.
    """

    elements: tuple[str, ...]
    members: dict[str, list[Member]] = field(repr=False)
    of_key: dict[str, str] = field(repr=False)
    by_key: dict[str, Member] = field(repr=False)

    @classmethod
    def of(cls, tensors: Iterable[Tensor]) -> Self:
        """Fold the names of a checkpoint; buffers, integers and adapters are left out."""
        kept = [t for t in tensors if _counts(t)]
        if _ADAPTERS.search("\n".join(t.key for t in kept)):
            kept = [t for t in kept if not _ADAPTERS.search(t.key)]
        keys = [t.key for t in kept]
        folded, numbers = fold_all(keys)
        elements = [f"{name} {len(t.shape)}" for name, t in zip(folded, kept, strict=True)]
        each = [Member(index, t.shape) for index, t in zip(numbers, kept, strict=True)]
        members: defaultdict[str, list[Member]] = defaultdict(list)
        for element, member in zip(elements, each, strict=True):
            members[element].append(member)
        for found in members.values():
            found.sort(key=_numbers)
        of_key, by_key = dict(zip(keys, elements, strict=True)), dict(zip(keys, each, strict=True))
        return cls(tuple(sorted(members)), dict(members), of_key, by_key)

    def subtree(self, prefix: str) -> Subtree:
        """Return what stands below a folded module name; the empty one is the whole."""
        if not prefix:
            return Subtree(self, prefix, 0, len(self.elements))
        low = bisect_left(self.elements, prefix + ".")
        # "/" follows "." in ASCII, so this is the first name beyond the subtree.
        return Subtree(self, prefix, low, bisect_left(self.elements, prefix + "/", low))


@dataclass(frozen=True)
class Subtree:
    """The elements of an outline below one module.

    Attributes:
        outline: the whole.
        prefix: folded name of the module.
        low: first place in `outline.elements`.
        high: the place behind the last one.
    """

    outline: Outline = field(repr=False)
    prefix: str
    low: int
    high: int

    @cached_property
    def depth(self) -> int:
        """How many block numbers stand in the prefix."""
        return self.prefix.count("*")

    @cached_property
    def relative(self) -> tuple[str, ...]:
        """The elements, without the prefix, in order."""
        cut = len(self.prefix) + 1 if self.prefix else 0
        return tuple(e[cut:] for e in self.outline.elements[self.low : self.high])

    @cached_property
    def bodies(self) -> tuple[Body, ...]:
        """The subtree as it is, without copies, and without its head too; none if too small."""
        if not MIN_ELEMENTS <= self.high - self.low <= MAX_ELEMENTS:
            return ()
        bodies = [Body.of(self.relative)]
        firsts = [re.split(r"[. ]", e, maxsplit=1)[0] for e in self.relative]
        for aside in (COPIES, COPIES | HEADS):
            rest = tuple(e for e, f in zip(self.relative, firsts, strict=True) if f not in aside)
            if MIN_ELEMENTS <= len(rest) < len(bodies[-1].elements):
                bodies.append(Body.of(rest))
        return tuple(bodies)

    def members(self, relative: str) -> list[Member]:
        """Return the tensors of one of its elements."""
        name = f"{self.prefix}.{relative}" if self.prefix else relative
        return self.outline.members[name]

    def places(self, relative: str) -> Places:
        """Return the block numbers of one of its elements, without those of the prefix."""
        found = self._places.get(relative)
        if found is None:
            numbers = sorted(m.numbers[self.depth :] for m in self.members(relative))
            found = self._places[relative] = Places(numbers, positions(numbers))
        return found

    @cached_property
    def _places(self) -> dict[str, Places]:
        return {}


@dataclass(frozen=True, slots=True)
class Body:
    """A set of relative elements, as the catalogue knows it.

    Attributes:
        digest: of the set, in hexadecimal.
        elements: sorted.
    """

    digest: str
    elements: tuple[str, ...] = field(repr=False)

    @classmethod
    def of(cls, elements: tuple[str, ...]) -> Self:
        """Digest a sorted set of elements."""
        text = "\n".join(elements).encode("utf-8", "surrogatepass")
        return cls(blake2b(text, digest_size=_DIGEST_BYTES).hexdigest(), elements)

    def place(self, element: str) -> int | None:
        """Return the place of an element; None where it is not in the set."""
        at = bisect_left(self.elements, element)
        return at if at < len(self.elements) and self.elements[at] == element else None


def prefixes(element: str) -> Iterator[str]:
    """Return the folded modules above an element, the whole model first."""
    parts = element.split(".", MAX_DEPTH)[:-1]
    yield ""
    for count in range(1, len(parts) + 1):
        yield ".".join(parts[:count])


def _counts(tensor: Tensor) -> bool:
    last = tensor.key.rpartition(".")[2]
    return not (tensor.dtype in _INTEGERS or last in _BUFFERS)


def partner(member: Member, others: list[Member]) -> Member:
    """Return the tensor of another element that stands nearest to one, by its numbers.

    The one with the longest common start of numbers; of several, the first. The others, at least
    one, are in the order of their numbers.
    """
    at = bisect_left(others, member.numbers, key=_numbers)
    near = others[max(0, at - 1) : at + 1]
    common = max(_agreement(member.numbers, o.numbers) for o in near)
    return others[bisect_left(others, member.numbers[:common], key=_numbers)]


def positions(indices: Iterable[tuple[int, ...]]) -> str:
    """Return a digest of all block numbers under which an element stands."""
    text = ";".join(",".join(map(str, index)) for index in sorted(indices))
    return blake2b(text.encode(), digest_size=_POSITION_BYTES).hexdigest()


def _numbers(member: Member) -> tuple[int, ...]:
    return member.numbers


def _agreement(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        count += 1
    return count
