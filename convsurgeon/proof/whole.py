"""Whole models, run side by side: how far the swapped one's outputs drift from the original's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convsurgeon.errors import ModelError
from convsurgeon.proof.drift import ALLOWED, Drift
from convsurgeon.proof.moves import ModelInputs, moves
from convsurgeon.proof.tape import Tape
from convsurgeon.proof.watch import common_layers, forward

if TYPE_CHECKING:
    from torch import nn

SEED = 20_260_101
PERTURBATIONS = 8
"""How many times the yardstick is measured: all up, all down, and random directions."""
_STILL = "nothing moves with a last place of the input: the yardstick is that of each output itself"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What running two models found.

    Attributes:
        outputs: every tensor that the original returns.
        layers: the output of each layer, in the order of their first calls.
        notes: what should be known although it decides nothing.
    """

    outputs: tuple[Drift, ...]
    layers: tuple[Drift, ...]
    notes: tuple[str, ...] = ()


def run_models(
    original: nn.Module,
    swapped: nn.Module,
    inputs: ModelInputs,
    *,
    seed: int = SEED,
    perturbations: int = PERTURBATIONS,
    allowed: float = ALLOWED["float32"],
) -> Comparison:
    """Run both models on one input, and the original on perturbed ones, and compare every output.

    Args:
        original: in eval mode.
        swapped: in eval mode too, with layers of the same names.
        inputs: for both.
        seed: of the perturbations, and of what the models themselves draw.
        perturbations: how many times the yardstick is measured.
        allowed: how many yardsticks an output may drift.

    Raises:
        ModelError: CS064 where the original returns no tensor.
    """
    names = [[name for name, _ in model.named_modules()] for model in (original, swapped)]
    layers, tape = common_layers(*names), Tape()
    others = forward(original, inputs, layers, seed, tape.keep)
    if not any(not place.module for place in tape.kept):
        raise ModelError("CS064", "the model returns no tensor, so there is nothing to compare")
    forward(original, inputs, layers, seed, tape.repeat)
    for move in moves(perturbations, seed):
        with move.of_embeddings(original, inputs):
            forward(original, inputs.moved(move), layers, seed, tape.move)
    forward(swapped, inputs, layers, seed, tape.hold)
    outputs, inner = tape.drifts(allowed)
    return Comparison(outputs, inner, tuple(_notes(tape, others)))


def _notes(tape: Tape, others: Mapping[str, str]) -> Iterator[str]:
    if not any(tape.yardstick.values()):
        yield _STILL
    for name, gap in tape.noisy():
        text = f"two runs of the original on one input differ by {gap:.2g}"
        yield f"output {name}: {text}, which counts into its yardstick"
    for name, kind in others.items():
        yield f"output {name} is a {kind} and is not compared"
