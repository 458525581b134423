"""`load`: put a swapped checkpoint into a live model, and its layers into the form they need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from convsurgeon.errors import ConvsurgeonError, UsageError
from convsurgeon.integrations import Translation, translate
from convsurgeon.integrations.recorded import Effect, Recorded, recorded
from convsurgeon.integrations.units import KeyMap
from convsurgeon.limits import DEFAULT_MAX_HEADER
from convsurgeon.store import Checkpoint, ReadOptions, only_path, read_checkpoint

if TYPE_CHECKING:
    from torch import nn

    from convsurgeon.api.live.exchange import Change
    from convsurgeon.api.live.model import LiveModel
    from convsurgeon.api.live.placing import Placement
    from convsurgeon.api.live.replacing import Replacing

KINDS = ("linear", "gemm", "keep")


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
    Linear `[O, F]` a `FlatConv` that takes what it took, and all that `swap_module` keeps is kept.
    Drop-ins that are there already stay, and take every form of file. Every other parameter stays
    the same object, with its dtype, device and `requires_grad`; on the meta device it gets memory.
    All is checked before anything changes: only a file that fails while it is read can leave a
    mixture of values, never another structure.

    Args:
        model: a live model; transformers' own name conversions are followed.
        path: a file, index, or folder with one checkpoint; without a recipe nothing is replaced.
        kind: what stands for a conv: "linear" or "gemm"; with "keep" every layer stays what it is,
            and the weights get back the form that they had.
        key_map: from the file's keys, without what `child_keys` added, to the model's names.
        cast: whether another floating dtype than a parameter's is converted to it.
        max_header_bytes: largest header to accept.

    Raises:
        UsageError: CS090 for an unknown kind, or a folder with several checkpoints.
        MismatchError: CS084 where file and model differ: names, shapes, dtypes, geometries.
        RefusedError: where the file cannot be read, or its recipe does not fit it (CS082).
    """
    check_kind(kind)
    checkpoint = read_checkpoint(only_path(Path(path)), ReadOptions(limit=max_header_bytes))
    try:
        return place(model, checkpoint, recorded(checkpoint), kind=kind, key_map=key_map, cast=cast)
    except ConvsurgeonError as error:
        if str(checkpoint.path) not in error.where:
            error.where = ": ".join(filter(None, (str(checkpoint.path), error.where)))
        raise


def place(  # noqa: PLR0913 - those of `load`, and what its callers know
    model: nn.Module,
    checkpoint: Checkpoint,
    done: Recorded,
    *,
    kind: str = KINDS[0],
    key_map: KeyMap | None = None,
    cast: bool = False,
    untie: bool = False,
) -> LoadReport:
    """Do what `load` does with a checkpoint whose headers are read.

    Args:
        model: see `load`, as for all that follows.
        checkpoint: the file, or an index with its shards.
        done: what happened to weights: that of the recipes, or what is known otherwise.
        kind: what stands for a conv.
        key_map: from the file's keys to the model's names.
        cast: whether another floating dtype is converted.
        untie: whether a layer that the file has apart from what it is tied to gets a copy.

    Raises:
        MismatchError: CS084.
    """
    from convsurgeon.api.live.exchange import attach
    from convsurgeon.api.live.model import LiveModel
    from convsurgeon.api.live.placing import Placing
    from convsurgeon.api.live.replacing import Replacing
    from convsurgeon.api.live.transfer import empty_tensors

    empty = empty_tensors(checkpoint)
    live = LiveModel(model)
    first = {key: done.names.get(key, key) for key in empty}
    translation = translate(model, first, live.names(), key_map)
    changes = _changes(Replacing(live, kind, untie=untie), translation, done.effects)
    placement = Placing(live, done.effects, cast=cast).place(translation, empty)
    _fill(live, checkpoint, placement)
    attach(model, [change for change, _, _ in changes])
    count = len(empty) - len(placement.ignored)
    return LoadReport(str(checkpoint.path), _rows(changes), count, placement.ignored)


def _fill(live: LiveModel, checkpoint: Checkpoint, placement: Placement) -> None:
    from torch import inference_mode

    from convsurgeon.api.live.transfer import Transfer

    # A caller's inference mode would make parameters that no gradient can ever reach.
    with inference_mode(mode=False), Transfer(checkpoint) as transfer:
        transfer.check_ties(placement)
        transfer.fill(placement)
        live.materialised()


def check_kind(kind: str) -> None:
    """Check what stands for a convolution.

    Raises:
        UsageError: CS090.
    """
    if kind not in KINDS:
        known = ", ".join(map(repr, KINDS))
        raise UsageError("CS090", f"{kind!r} is none of {known}", where="kind")


def _rows(changes: list[tuple[Change, str, str]]) -> tuple[ReplacedModule, ...]:
    return tuple(
        ReplacedModule(path, type(change.old).__name__, type(change.new).__name__, layout)
        for change, path, layout in changes
    )


def _changes(
    replacing: Replacing, translation: Translation, done: Mapping[str, Effect]
) -> list[tuple[Change, str, str]]:
    for unit in translation.units:
        for effect in (done[key] for key in unit.keys if key in done):
            replacing.ask(effect, unit)
    return replacing.build()
