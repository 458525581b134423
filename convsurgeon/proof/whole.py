"""Whole models, run side by side: how far the swapped one's outputs drift from the original's.

No bound can be derived for a whole model. The yardstick is measured: how far the original's own
output moves when every floating number of its input moves by one unit in the last place, up, down
and in random directions, in the same run and dtype; the largest response counts, and at least one
last place of the output itself. Where tokens are given, the vectors that they stand for move.

How many yardsticks a true swap may drift (`drift.ALLOWED`) is chosen by measurement, not derived.
`benchmarks/drift.py --seeds 10` swaps 20 kinds of models, 10 of each, rightly and wrongly: patches
of 4 to 32 pixels, clips, a head of 25,088 inputs, the sample checkpoints, ViT, CLIP, ConvNeXt and
Swin of transformers, and single layers. The drift of each is that of its worst output, in
yardsticks (torch 2.13, 2026-11-22, x86-64 with AVX2):

    dtype      true swaps: median, largest   wrong ones, the least: one row   axes, layout   allowed
    float64             0.50    1.4                     3.5e+12     1.3e+14        16
    float32             1.0    47                       7.2e+03     3.3e+05       256
    bfloat16            0.0     0.73                    0.64       11               4
    float16             0.0     0.97                    3.9        90               4

In float32 the largest belongs to a single Linear of 25,088 inputs that are like its weights; of
whole models it is 6.8 with such a layer and 2.1 without. It grows with the number of products in a
sum, whose rounding errors grow and whose response to the input does not. In half precision both
forms of a layer sum in float32 and round once, so a true swap hardly drifts; but a last place is so
large that a wrong row may hide below it. In float64 nothing of this is near anything else: there
even a last place of one stored float32 weight is refuted, which in float32 drifts no more than
rounding errors do. The bits of each weight are proved by `bits`, in whatever dtype.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convsurgeon.errors import ModelError
from convsurgeon.proof.drift import ALLOWED, Drift
from convsurgeon.proof.inputs import SEED
from convsurgeon.proof.moves import ModelInputs, moves
from convsurgeon.proof.tape import Tape
from convsurgeon.proof.watch import common_layers, forward

if TYPE_CHECKING:
    from torch import nn

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
    if not any(not place.module and tensor.numel() for place, tensor in tape.kept.items()):
        text = "the model returns no tensor, or empty ones, so there is nothing to compare"
        raise ModelError("CS064", text)
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
