"""From a SPEC and the shape of an image to what a traced model states, and to a proof of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convsurgeon.api.fully import fully_convolutional, refused
from convsurgeon.api.sliding import Sliding
from convsurgeon.errors import UsageError
from convsurgeon.results import DenseReport

if TYPE_CHECKING:
    import torch
    from torch import nn

    from convsurgeon.plan.dense import DensePlan
    from convsurgeon.sources.model import ModelSpeaker
    from convsurgeon.store import Checkpoint

_LEAST = 3
"""Axes of a batch of images: theirs, the channels', and one of space."""


def traced(
    speaker: ModelSpeaker, spec: str, sliding: Sliding
) -> tuple[ModelSpeaker, DensePlan | None]:
    """Follow the forward of a model that is built without memory.

    Returns:
        The speaker, which knows the inputs of Linears now, and the plan of the whole network if
        that was asked for.

    Raises:
        UsageError: CS090 where the shape is no image's.
        RefusedError: where the whole network was asked for and cannot be.
    """
    from convsurgeon.dense.evidence import with_splits
    from convsurgeon.dense.read import read
    from convsurgeon.sources.live import build_bare

    model = build_bare(spec)
    shape, dtype = _images(sliding.example, model)
    reading = read(model, shape, dtype, behind=sliding.pool == "behind")
    if sliding.fully and not reading.plan.possible:
        raise refused(reading.plan)
    told = with_splits(speaker, reading, only=sliding.fully)
    return told, reading.plan if sliding.fully else None


def proved(checkpoint: Checkpoint, spec: str, sliding: Sliding) -> DenseReport:
    """Load a checkpoint into its model, and prove the whole network that the model becomes.

    Raises:
        MismatchError: CS084 where the checkpoint is not the model's.
        NotEquivalentError: CS083 where the proof failed.
        ModelError: CS064 where the proof cannot run the model.
    """
    import torch

    from convsurgeon.api.whole import put
    from convsurgeon.integrations.recorded import recorded
    from convsurgeon.sources.live import build_live

    model = build_live(spec)
    put(model, checkpoint, recorded(checkpoint), spec)
    shape, dtype = _images(sliding.example, model)
    report = fully_convolutional(model, torch.empty(shape, dtype=dtype), pool=sliding.pool)
    return DenseReport(report.plan, None, report.verdict)


def _images(example: str, model: nn.Module) -> tuple[tuple[int, ...], torch.dtype]:
    """Return the shape and the dtype of the images that a text names.

    Args:
        example: `1x3x224x224`, or `dummy` for the size that the model's library has for it.
        model: as it was built.

    Raises:
        UsageError: CS090 where it is no single tensor of floating numbers.
    """
    import torch

    from convsurgeon.api.model_inputs import parse_inputs

    make = parse_inputs((example,), None)
    tensors = make(model, torch.float32, 0).tensors if make else ()
    if len(tensors) != 1 or not tensors[0].is_floating_point() or tensors[0].dim() < _LEAST:
        text = f"{example!r} is no batch of images [B, C, *spatial]"
        raise UsageError("CS090", text, where="--input", hint="write 1x3x224x224")
    return tuple(tensors[0].shape), tensors[0].dtype
