"""`load`: put a swapped checkpoint into a live model, and its layers into the form they need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from convsurgeon.api.live.effects import Effect, effects
from convsurgeon.errors import ConvsurgeonError, UsageError
from convsurgeon.integrations import Translation, translate
from convsurgeon.integrations.units import KeyMap
from convsurgeon.limits import DEFAULT_MAX_HEADER
from convsurgeon.store import Checkpoint, ReadOptions, only_path, read_checkpoint

if TYPE_CHECKING:
    from torch import nn

    from convsurgeon.api.live.model import LiveModel

KINDS = ("linear", "gemm")


@dataclass(frozen=True, slots=True)
class ReplacedModule:
    """One layer that another module stands for now.

    Attributes:
        module: its name in the model.
        before: class of the layer that stood there.
        after: class of the one that stands there now.
        layout: order in which the linear side is flattened.
    """

    module: str
    before: str
    after: str
    layout: str


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What `load` did to a model.

    Attributes:
        path: the file or the index that was loaded.
        replaced: the layers that were replaced; empty where they had the right form already.
        tensors: how many tensors of the file are in the model now.
        ignored: keys that stayed in the file because the model's library says so.
    """

    path: str
    replaced: tuple[ReplacedModule, ...]
    tensors: int
    ignored: tuple[str, ...] = ()


def load(
    model: nn.Module,
    path: str | PathLike[str],
    *,
    kind: str = "linear",
    key_map: KeyMap | None = None,
    cast: bool = False,
    max_header_bytes: int = DEFAULT_MAX_HEADER,
) -> LoadReport:
    """Replace the layers that a file's recipe names, then load the file strictly.

    A conv `[O, C, *kernel]` becomes a `PatchLinear` in the recipe's layout or a `GemmConv`, a
    Linear `[O, F]` a `FlatConv` that takes what it took; drop-ins that are there already take
    either form. Every other parameter stays the same object, with its dtype, device and
    `requires_grad`; on the meta device it gets memory. All is checked before anything changes: only
    a file that fails while it is read can leave a mixture of values, never another structure.

    Args:
        model: a live model; transformers' own name conversions are followed.
        path: a file, an index, or a folder with one checkpoint; without a recipe nothing is
            replaced.
        kind: what stands for a conv: "linear" or "gemm".
        key_map: from the file's keys to the model's names, where they differ.
        cast: whether another floating dtype than a parameter's is converted to it.
        max_header_bytes: largest header to accept.

    Raises:
        UsageError: CS090 for an unknown kind, or a folder with several checkpoints.
        MismatchError: CS084 where file and model differ: names, shapes, dtypes, geometries.
        RefusedError: where the file cannot be read, or its recipe does not fit it (CS082).
    """
    if kind not in KINDS:
        raise UsageError("CS090", f"{kind!r} is none of 'linear', 'gemm'", where="kind")
    checkpoint = read_checkpoint(only_path(Path(path)), ReadOptions(limit=max_header_bytes))
    try:
        return place(model, checkpoint, effects(checkpoint), kind=kind, key_map=key_map, cast=cast)
    except ConvsurgeonError as error:
        if str(checkpoint.path) not in error.where:
            error.where = ": ".join(filter(None, (str(checkpoint.path), error.where)))
        raise


def place(
    model: nn.Module,
    checkpoint: Checkpoint,
    done: Mapping[str, Effect],
    *,
    kind: str = KINDS[0],
    key_map: KeyMap | None = None,
    cast: bool = False,
) -> LoadReport:
    """Do what `load` does with a checkpoint whose headers are read.

    Args:
        model: see `load`, as for all that follows.
        checkpoint: the file, or an index with its shards.
        done: what happened to weights, by key: that of the recipes, or what is known otherwise.
        kind: what stands for a conv.
        key_map: from the file's keys to the model's names.
        cast: whether another floating dtype is converted.

    Raises:
        MismatchError: CS084.
    """
    from convsurgeon.api.live.model import LiveModel
    from convsurgeon.api.live.placing import Placing
    from convsurgeon.api.live.transfer import Transfer, empty_tensors

    empty = empty_tensors(checkpoint)
    live = LiveModel(model)
    names = live.slots().keys() | live.inner_names().keys()
    translation = translate(model, empty, names, key_map)
    replaced = _replace(live, translation, done, kind)
    placement = Placing(live, done, cast=cast).place(translation, empty)
    with Transfer(checkpoint) as transfer:
        transfer.check_ties(placement)
        transfer.fill(placement)
    live.materialised()
    live.attach()
    return LoadReport(
        str(checkpoint.path), replaced, len(empty) - len(placement.ignored), placement.ignored
    )


def _replace(
    live: LiveModel, translation: Translation, done: Mapping[str, Effect], kind: str
) -> tuple[ReplacedModule, ...]:
    from convsurgeon.api.live.replacing import Replacing

    replacing = Replacing(live, kind)
    rows = []
    for unit in translation.units:
        for effect in (done[key] for key in unit.keys if key in done):
            path = replacing.prepare(effect, unit)
            if path is not None:
                old, new = (type(m).__name__ for m in (live.modules[path], live.now(path)))
                rows.append(ReplacedModule(path, old, new, effect.layout))
    return tuple(rows)
