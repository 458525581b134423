"""Tensors of two state dicts, and outputs of two networks, held against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from math import inf, prod

import torch
from torch import Tensor, nn

from convsurgeon.proof.cells_verdict import TensorBits
from convsurgeon.proof.drift import ALLOWED, Drift
from convsurgeon.proof.gaps import difference, last_place, magnitude, objection, response
from convsurgeon.proof.inputs import SEED
from convsurgeon.proof.leaves import leaves
from convsurgeon.proof.moves import moves

Run = Callable[[Tensor], Mapping[str, Tensor]]
"""What a network gives for some images or maps, by the names of its outputs."""
MOVES = 3
"""How many times the yardstick of an output is measured: all up, all down, at random."""
_MATRIX = 2


def bits(original: nn.Module, dense: nn.Module) -> Iterator[TensorBits]:
    """Compare every tensor of two state dicts, bit for bit."""
    old, new = original.state_dict(), dense.state_dict()
    for name in (*old, *(name for name in new if name not in old)):
        if name not in old or name not in new:
            yield TensorBits(name, 0, 1, "missing in one of the two")
            continue
        first, second = old[name].detach(), new[name].detach()
        rows = tuple(first.shape[:1])
        flat = first.ndim == _MATRIX and second.ndim > _MATRIX and tuple(second.shape[:1]) == rows
        if flat and prod(second.shape) == prod(first.shape):
            second = second.reshape(first.shape)  # row by row, as torch flattens a map
        if first.shape != second.shape or first.dtype != second.dtype:
            text = f"{list(first.shape)} {first.dtype} became {list(second.shape)} {second.dtype}"
            yield TensorBits(name, first.numel(), first.numel(), text)
            continue
        yield TensorBits(name, first.numel(), _unequal(first, second))


def _unequal(first: Tensor, second: Tensor) -> int:
    """Count the elements that are not equal bit for bit."""
    if not first.numel():
        return 0
    one, other = (t.cpu().contiguous().reshape(-1, 1).view(torch.uint8) for t in (first, second))
    return int((one != other).any(dim=1).sum())


def drifts(
    run: Run, parts: Tensor, found: Mapping[str, Tensor], times: int = MOVES
) -> tuple[Drift, ...]:
    """Compare outputs, in yardsticks: how far they move with one last place of the input.

    Args:
        run: the original, or its head.
        parts: what it is run on.
        found: the same outputs of the new network.
        times: how many times the yardstick is measured.
    """
    kept = run(parts)
    yardsticks = {name: last_place(one) for name, one in kept.items()}
    for move in moves(times, SEED):
        for name, one in run(move.of(parts)).items():
            yardsticks[name] = max(yardsticks[name], response(kept[name], one))
    rows = [_drift(name, one, found.get(name), yardsticks[name]) for name, one in kept.items()]
    more = [name for name in found if name not in kept]
    rows += [Drift(name, (), inf, 0.0, 0.0, "the original does not give it") for name in more]
    return tuple(replace(one, allowed=ALLOWED["float64"]) for one in rows)


def _drift(name: str, kept: Tensor, other: Tensor | None, yardstick: float) -> Drift:
    shape, scale = tuple(kept.shape), magnitude(kept)
    if other is None:
        return Drift(name, shape, inf, yardstick, scale, "the new network does not give it")
    gap = difference(kept, other) if kept.shape == other.shape else inf
    return Drift(name, shape, gap, yardstick, scale, objection(kept, other))


def outputs(model: nn.Module, images: Tensor) -> Mapping[str, Tensor]:
    """Return every tensor that a network gives."""
    with torch.no_grad():
        found = model(images.clone())  # it may write to what it is given
    return {name: one for name, one in leaves(found) if isinstance(one, Tensor)}
