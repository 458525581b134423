"""Fully convolutional networks held against the classifiers that they were made of, in float64.

Three questions, each with an answer of its own:

- bits: does every tensor of the new state dict hold the old one's numbers, bit for bit, a matrix in
  the order in which torch flattens a map?
- cells: is every cell of the new map what the original *head* makes of that window of the
  original's own feature map? It must be, for every network.
- crops: is it also what the whole original *network* makes of that crop of the image? It must be
  where nothing in front of the head looks past the border of its input; elsewhere the difference is
  measured and told, since it is that of the networks, not of the surgery.

The original is run as it is (`proof.splice`). Of the surgery the proof is told what it claims, and
nothing else (`Claim`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import Tensor, nn

from convsurgeon.errors import ModelError
from convsurgeon.proof.cells_compare import MOVES, drifts, outputs
from convsurgeon.proof.cells_compare import bits as compare_bits
from convsurgeon.proof.cells_verdict import Cells, DenseVerdict
from convsurgeon.proof.inputs import SEED
from convsurgeon.proof.splice import Splice

_Maps = Mapping[str, Tensor]
_MATRIX = 2
_LARGER = ((2, 1), (1, 2))
"""Cells more than one along the first and the other axes, so that exchanged axes show."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What the surgery says that it did.

    Attributes:
        image: `[C, *spatial]`, the native size.
        weights: names of the weights of the Linears behind the map.
        stride: pixels between neighbouring cells, along each axis.
        pooled: whether a global average pool was moved behind the head.
        borders: what makes crops differ; empty where they must be equal.
    """

    image: tuple[int, ...]
    weights: tuple[str, ...]
    stride: tuple[int, ...]
    pooled: bool
    borders: tuple[str, ...]


@dataclass(frozen=True, eq=False, slots=True)
class _Pair:
    """Both networks in float64, and what is claimed of them."""

    original: nn.Module
    dense: nn.Module
    claim: Claim
    splice: Splice


def check(
    original: nn.Module,
    dense: nn.Module,
    claim: Claim,
    *,
    exhaustive: bool = False,
    seed: int = SEED,
) -> DenseVerdict:
    """Prove, or refute, that a network slides a classifier over larger images.

    Both are copied, and global random numbers stay where they are.

    Args:
        original: the classifier.
        dense: what was made of it.
        claim: what it is said to be.
        exhaustive: whether images of every remainder of the stride are tried too.
        seed: of the images.

    Raises:
        ModelError: CS064 where one of the two cannot be run.
    """
    bits = tuple(compare_bits(original, dense))
    with torch.random.fork_rng(devices=[]):
        generator = torch.Generator().manual_seed(seed)
        try:
            pair = _pair(original, dense, claim, generator)
            cells, crops = _run(pair, _sizes(claim, exhaustive=exhaustive), generator)
        except ModelError:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - somebody else wrote the forward
            text = f"it cannot be run in float64: {type(error).__name__}: {str(error)[:200]}"
            raise ModelError("CS064", text, where=type(original).__name__) from None
    return DenseVerdict(bits, tuple(cells), tuple(crops), claim.borders, claim.pooled, seed)


def _run(
    pair: _Pair, sizes: Iterable[tuple[int, ...]], generator: torch.Generator
) -> tuple[list[Cells], list[Cells]]:
    """Return what is found about cells, and about crops or means, on an image of each size."""
    claim = pair.claim
    cells: list[Cells] = []
    crops: list[Cells] = []
    for size in sizes:
        image = _random((1 if cells else 2, claim.image[0], *size), generator)
        maps = outputs(pair.dense, image)
        cells.append(_cells(pair, image, maps))
        if claim.pooled:
            crops.append(_means(pair, image, maps))
        elif size != claim.image[1:] and not (claim.borders and crops):
            crops.append(_crops(pair, image, maps))  # what is only told, is told once
    return cells, crops


def _pair(original: nn.Module, dense: nn.Module, claim: Claim, generator: torch.Generator) -> _Pair:
    first, second = (
        copy.deepcopy(one).to("cpu", torch.float64).eval() for one in (original, dense)
    )
    image = _random((2, *claim.image), generator)
    splice = Splice.of(first, image, claim.weights, pooled=claim.pooled)
    return _Pair(first, second, claim, splice)


def _sizes(claim: Claim, *, exhaustive: bool) -> Iterator[tuple[int, ...]]:
    """Yield the native size, and larger ones: whole steps, and steps with the largest remainder."""
    native = claim.image[1:]
    yield native
    for number, (first, other) in enumerate(_LARGER):
        more = (first, *(other,) * (len(native) - 1))
        rests = [number * (stride - 1) for stride in claim.stride]
        yield tuple(
            n + m * s + r for n, m, s, r in zip(native, more, claim.stride, rests, strict=True)
        )
    for rest in range(1, max(claim.stride) - 1) if exhaustive else ():
        yield tuple(n + s + min(rest, s - 1) for n, s in zip(native, claim.stride, strict=True))


def _cells(pair: _Pair, image: Tensor, maps: _Maps) -> Cells:
    """Hold each cell against the original head on its window of the original's feature map."""
    found = pair.splice.map(image)
    window = pair.splice.window[1:]
    counts = tuple(size - w + 1 for size, w in zip(found.shape[2:], window, strict=True))
    places = list(product(*(range(count) for count in counts)))
    steps = (1,) * len(counts)
    windows = torch.cat([_part(found, place, steps, window) for place in places])
    return Cells(
        tuple(image.shape),
        counts,
        drifts(pair.splice.head, windows, _rows(maps)),
        _expected(pair.claim, image, counts),
    )


def _crops(pair: _Pair, image: Tensor, maps: _Maps) -> Cells:
    """Hold each cell against the whole original on its crop of the image."""
    native, stride = pair.claim.image[1:], pair.claim.stride
    sides = zip(image.shape[2:], native, stride, strict=True)
    counts = tuple((size - n) // s + 1 for size, n, s in sides)
    places = list(product(*(range(count) for count in counts)))
    crops = torch.cat([_part(image, place, stride, native) for place in places])

    def whole(inputs: Tensor) -> Mapping[str, Tensor]:
        return outputs(pair.original, inputs)

    # Where it decides nothing, how far rounding goes need not be known.
    times = 0 if pair.claim.borders else MOVES
    # A rest of pixels may be enough for a cell more, of which there is no whole crop.
    cut = {name: one[_inside(counts)] for name, one in maps.items()}
    return Cells(tuple(image.shape), counts, drifts(whole, crops, _rows(cut), times))


def _means(pair: _Pair, image: Tensor, maps: _Maps) -> Cells:
    """Hold the mean over the map against what the original says of the same image."""
    means = {name: one.flatten(2).mean(2) for name, one in maps.items() if one.ndim > _MATRIX}
    found = drifts(lambda x: outputs(pair.original, x), image, means)
    return Cells(tuple(image.shape), (1,) * (image.ndim - 2), found)


def _expected(claim: Claim, image: Tensor, counts: tuple[int, ...]) -> str:
    """Say where the number of cells is not what the stride that is claimed makes it."""
    if claim.pooled:
        return ""
    sides = zip(image.shape[2:], claim.image[1:], claim.stride, counts, strict=True)
    claimed = []
    for size, native, stride, count in sides:
        steps, rest = divmod(size - native, stride)
        # A rest below the stride may be enough for one more, where the native size has a rest too.
        claimed.append(count if rest and count == steps + 2 else steps + 1)
    if tuple(claimed) == counts:
        return ""
    return f"{list(counts)} cells at {list(image.shape[2:])}, the stride claims {claimed}"


def _part(
    tensor: Tensor, place: tuple[int, ...], steps: tuple[int, ...], size: tuple[int, ...]
) -> Tensor:
    """Cut `[B, C, *size]` out of a tensor."""
    for axis, (at, step, length) in enumerate(zip(place, steps, size, strict=True)):
        tensor = tensor.narrow(2 + axis, at * step, length)
    return tensor


def _inside(counts: tuple[int, ...]) -> Any:
    """Return the index of so many cells along each axis, or of all where there are fewer."""
    return (..., *(slice(count) for count in counts))


def _rows(maps: _Maps) -> dict[str, Tensor]:
    """Return maps `[B, classes, *cells]` as rows `[cells * B, classes]`."""
    return {name: one.movedim(0, -1).flatten(1).t() for name, one in maps.items()}


def _random(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=generator)
