"""`save_pretrained`: what the original class reads, or a swapped checkpoint with its recipe."""

from __future__ import annotations

from collections.abc import Iterator
from glob import escape
from itertools import pairwise
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from convsurgeon.api.choices import Choices
from convsurgeon.api.paths import MadeFolders
from convsurgeon.api.swapping import swap
from convsurgeon.errors import OutputError, UsageError
from convsurgeon.geometry import times
from convsurgeon.integrations import translate
from convsurgeon.integrations.pretrained import library_of
from convsurgeon.rearrangement import CHANNEL_FIRST
from convsurgeon.sources.model import need_torch
from convsurgeon.store import ReadOptions, only_path, read_checkpoint

if TYPE_CHECKING:
    from torch import nn

FORMS = ("original", "swapped")


def save_pretrained(
    model: Any,
    folder: str | PathLike[str],
    *,
    form: str = FORMS[0],
    child_keys: bool = False,
    **options: Any,
) -> None:
    """Save a model of transformers or diffusers that has drop-ins.

    "original" is what the class's own `from_pretrained` reads: names and shapes of the plain
    layers. "swapped" is that after `swap`: each drop-in's layer has the form that it has in the
    model, the file holds the recipe, is proved, and `restore` makes the original of it. The model
    stays as it is.

    Args:
        model: of one of these libraries.
        folder: where to; for "swapped" it must not exist.
        form: "original" or "swapped".
        child_keys: see `Choices`; for "swapped".
        **options: further keywords of the model's own `save_pretrained`.

    Raises:
        UsageError: CS090 for another form, or a model of another library.
        MismatchError: CS027 where an adapter or a quantiser took the inner layer of a drop-in.
        OutputError: CS070 where a swapped folder exists.
    """
    if form not in FORMS:
        raise UsageError("CS090", f"{form!r} is none of 'original', 'swapped'", where="form")
    library = library_of(type(model))
    if not library or not hasattr(model, "save_pretrained"):
        text = f"a {type(model).__name__} is no model of transformers or diffusers"
        hint = "save convsurgeon.original_state_dict(model) as you save the original's"
        raise UsageError("CS090", text, where="model", hint=hint)
    if form == "original":
        _save(model, library, Path(folder), options)
    else:
        _save_swapped(model, library, Path(folder), options, child_keys=child_keys)


def _save_swapped(
    model: Any, library: str, target: Path, options: dict[str, Any], *, child_keys: bool
) -> None:
    if target.exists():
        raise OutputError("CS070", "it exists", where=target, hint="choose another name")
    with MadeFolders(target), TemporaryDirectory(dir=target.parent, prefix=".convsurgeon-") as made:
        steps = list(_steps(model))
        stages = [*(Path(made) / str(n) / target.name for n in range(len(steps))), target]
        for stage in stages[:-1]:
            stage.parent.mkdir()
        _save(model, library, stages[0], options)
        for (before, after), step in zip(pairwise(stages), steps, strict=True):
            _swap(model, before, after, step, child_keys=child_keys)


def _save(model: Any, library: str, folder: Path, options: dict[str, Any]) -> None:
    from convsurgeon.integrations.drop_ins import original_state_dict

    state = original_state_dict(model)
    if library == "transformers":  # it renames and cuts by itself, see `save_as_original`
        model.save_pretrained(folder, **options)
        return
    with need_torch().device("meta"):
        twin = type(model).from_config(model.config)
    twin.load_state_dict(state, strict=True, assign=True)
    twin.save_pretrained(folder, **options)


_Layers = dict[str, str]
"""A module's name, and what states its geometry or its input."""
_Step = tuple[str, str, _Layers]
"""The form, the layout, and the layers that get them."""


def _steps(model: nn.Module) -> Iterator[_Step]:
    """Yield what brings an original file into the form that the model has."""
    from convsurgeon.api.live.survey import GEMM_CONVS, DropIn
    from convsurgeon.nn import PatchLinear

    found: dict[tuple[str, str], _Layers] = {}
    for path, module in model.named_modules():
        if isinstance(module, DropIn):
            linear = isinstance(module, (PatchLinear, *GEMM_CONVS))
            layout = module.layout if isinstance(module, PatchLinear) else CHANNEL_FIRST
            size = times(module.kernel_size)
            text = f"k{size},s{size}" if linear else f"{module.in_channels}x{size}"
            key = ("linear" if linear else "conv", layout)
            found.setdefault(key, {})[path] = text.replace("×", "x")
    yield from ((to, layout, layers) for (to, layout), layers in found.items())


def _swap(model: Any, before: Path, after: Path, step: _Step, *, child_keys: bool) -> None:
    to, layout, layers = step
    names = _names_in(model, before)
    stated = [f"{escape(names[path])}={text}" for path, text in layers.items()]
    modules = [escape(names[path]) for path in layers]
    choices: Choices = {"to": to, "layout": layout, "layers": modules}
    if to == "linear":
        choices |= {"geometry": stated, "child_keys": child_keys}
    else:
        choices |= {"input_shape": stated}
    swap(before, after, **choices)


def _names_in(model: Any, folder: Path) -> dict[str, str]:
    """Return what a saved file calls each module of the model that has a weight."""
    checkpoint = read_checkpoint(only_path(folder), ReadOptions())
    keys = [key for source in checkpoint.sources for key in source.header.by_name]
    from convsurgeon.integrations.drop_ins import original_state_dict

    state = original_state_dict(model)
    units = translate(model, {key: key for key in keys}, state, None).units
    weights = ((unit.name, unit.keys[0]) for unit in units if unit.convert is None)
    return {
        name.removesuffix(".weight"): key.removesuffix(".weight")
        for name, key in weights
        if name.endswith(".weight")
    }
