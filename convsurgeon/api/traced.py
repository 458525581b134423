"""From a SPEC and the shape of an image to what a traced model states, and to a proof of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convsurgeon.api.fully import fully_convolutional, refused
from convsurgeon.api.sliding import Sliding
from convsurgeon.results import DenseReport

if TYPE_CHECKING:
    from convsurgeon.plan.dense import DensePlan
    from convsurgeon.sources.model import ModelSpeaker
    from convsurgeon.store import Checkpoint


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
    shape, dtype = sliding.shape(model)
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
    shape, dtype = sliding.shape(model)
    report = fully_convolutional(model, torch.empty(shape, dtype=dtype), pool=sliding.pool)
    return DenseReport(report.plan, None, report.verdict)
