"""`from_pretrained`: a model whose layers are swapped as it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convsurgeon.api.live.loading import KINDS, check_kind, load
from convsurgeon.api.live.surgery import asked_of, swap_module
from convsurgeon.api.run_dtype import stored_dtypes, usual_dtype
from convsurgeon.errors import UsageError
from convsurgeon.integrations.pretrained import (
    library_of,
    loaded_changed,
    loaded_plain,
    recorded_at,
)
from convsurgeon.rearrangement import CHANNEL_FIRST
from convsurgeon.sources.model import need_torch
from convsurgeon.store import ReadOptions, read_checkpoint

if TYPE_CHECKING:
    from torch import nn

_DTYPES = ("torch_dtype", "dtype")


def from_pretrained(
    model_class: Any,
    path: str | PathLike[str],
    *,
    kind: str = KINDS[0],
    where: Callable[[str, nn.Module], bool] | None = None,
    layout: str = CHANNEL_FIRST,
    **options: Any,
) -> Any:
    """Load a model of transformers or diffusers with its convolutions swapped.

    The file may be the original, or one that `swap` wrote, in any form; sharded, too. A model of
    transformers is swapped before it has memory: quantisers and device maps that are among the
    options see the layers that stay. Nothing of this reaches other models, later loads or other
    threads. What the model's own `save_pretrained` writes, see `save_pretrained`.

    Args:
        model_class: the class whose `from_pretrained` is meant, or an Auto class of transformers.
        path: what that is given: a folder, or a name on a hub.
        kind: "linear" or "gemm", see `swap_module`; with "keep" no layer is replaced, and the
            original class reads the swapped file.
        where: see `swap_module`.
        layout: see `swap_module`; for `kind="linear"`.
        **options: further keywords of that `from_pretrained`.

    Raises:
        UsageError: CS090 for choices that do not go together, or a class of no such library.
        MismatchError: CS084 where a recipe does not fit the class, or the config fuses layers.
        RefusedError: where a local file cannot be read, or its recipe does not fit it.
    """
    check_kind(kind)
    asked_of(where)
    if kind == "keep" and (where is not None or layout != CHANNEL_FIRST):
        text = "with 'keep' no layer is replaced, so that where and layout mean nothing"
        raise UsageError("CS090", text, where="kind")
    change = partial(swap_module, kind=kind, where=where, layout=layout)
    return _loaded(model_class, path, kind, change, options)


def _loaded(
    model_class: Any,
    path: str | PathLike[str],
    kind: str,
    change: Callable[[nn.Module], object],
    options: dict[str, Any],
) -> Any:
    library = library_of(model_class)
    if library == "transformers" and kind == "keep":
        return loaded_plain(model_class, path, options)
    if library == "transformers":
        return loaded_changed(model_class, path, change, options)
    if library == "diffusers":
        model = _of_diffusers(model_class, path, kind, options)
        if kind != "keep":
            change(model)
        return model
    text = f"{model_class!r} is no model class of transformers or diffusers"
    raise UsageError("CS090", text, where="model_class")


def _of_diffusers(
    model_class: Any, path: str | PathLike[str], kind: str, options: dict[str, Any]
) -> Any:
    """Load a model; only the layers that a recipe names are replaced."""
    place = Path(path) / (options.get("subfolder") or "")
    file, done = recorded_at(place)
    if file is None or not (done.effects or done.names):
        return model_class.from_pretrained(path, **options)
    model = _built(model_class, place, file, options)
    load(model, file, kind=kind, cast=True)
    return model


def _built(model_class: Any, place: Path, file: Path, options: Mapping[str, Any]) -> Any:
    """Build a model in the dtype that is asked for, or that its file has.

    Raises:
        UsageError: CS090 for keywords that only the library's own loader understands.
    """
    torch = need_torch()
    strange = sorted(set(options) - {*_DTYPES, "subfolder"})
    if strange:
        text = f"{', '.join(strange)}: no such keyword goes with a swapped file"
        raise UsageError("CS090", text, where="options")
    model = model_class.from_config(model_class.load_config(place))
    stored = usual_dtype(stored_dtypes(read_checkpoint(file, ReadOptions())))
    asked = next((options[name] for name in _DTYPES if name in options), getattr(torch, stored))
    return model.to(asked).eval()
