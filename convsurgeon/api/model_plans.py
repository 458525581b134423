"""The plan of a model without a file: the layers that its code builds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from convsurgeon.api.choices import Request
from convsurgeon.header import pack
from convsurgeon.plan import Contents, FilePlan, Shard, make_plan

if TYPE_CHECKING:
    from convsurgeon.sources.model import ModelSpeaker

_DTYPE = "F32"
Entry = tuple[str, str, tuple[int, ...]]


def plan_of_model(spec: str, request: Request) -> FilePlan:
    """Plan the layers of a model that is built without memory, by the rules for files.

    Args:
        spec: what builds the model.
        request: of which the wish and the user's statements count.

    Returns:
        A plan of one shard; its layers are float32, and no bytes are counted.

    Raises:
        UsageError, ModelError, RefusedError: see `build`.
        ContradictionError: CS060 where the user's statements contradict the model.
    """
    from convsurgeon.sources.build import build

    speaker = build(spec)
    header = pack(_entries(speaker))
    settings = request.settings
    notes = [settings.note] if settings else []
    notes += [f"{text} matches no module" for text in request.user.unused(header.by_name)]
    contents = Contents(spec, (Shard(spec, header),), 0, tuple(notes))
    return make_plan(contents, request.user.beside([speaker]), request.wish)


def _entries(speaker: ModelSpeaker) -> Iterator[Entry]:
    """Yield the weight of every layer whose weight is stored, and its bias if there is one."""
    for module, layer in speaker.layers.items():
        prefix = f"{module}." if module else ""
        if layer.shape is None:
            continue
        yield f"{prefix}weight", _DTYPE, layer.shape
        if f"{prefix}bias" in speaker.names:
            yield f"{prefix}bias", _DTYPE, layer.shape[:1]
