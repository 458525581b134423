"""`from_pretrained` of transformers, into a model whose layers are changed before it has weights.

The library builds a model without memory, asks for the conversions that hold for its tensors, and
reads file after file. Here it builds a class of the moment, derived from the one that is wanted,
whose constructor changes the layers last. So what comes behind, quantisers, plans for devices and
hooks that move tensors between them, sees the layers that stay. Then the model gets its own class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convsurgeon.errors import MismatchError, UsageError
from convsurgeon.integrations.conversions import (
    SAVES,
    check_no_fusion,
    open_more,
    opening,
    swapped_weights,
    ways_of_file,
)
from convsurgeon.integrations.recorded import Recorded, recorded
from convsurgeon.integrations.saving import live_ways, save_as_original
from convsurgeon.integrations.ways import Way
from convsurgeon.store import ReadOptions, only_path, read_checkpoint

if TYPE_CHECKING:
    from torch import nn

_NOTHING = Recorded({}, {})
_OF_A_CONFIG = ("revision", "subfolder", "cache_dir", "token", "local_files_only", "force_download")
"""Keywords that say where a config is."""


def recorded_at(path: str | PathLike[str]) -> tuple[Path | None, Recorded]:
    """Return the checkpoint in a local folder, and what its recipes say.

    Nothing where the folder has several, which the library chooses from, where it has none that
    could hold a recipe, or where there is no folder: a name on a hub, say. A swapped file that is
    met unawares is refused for its shapes.

    Raises:
        RefusedError: where the files of the one that is there cannot be read.
    """
    folder = Path(path)
    if not folder.is_dir() or not any(folder.glob("*.safetensors")):
        return None, _NOTHING
    try:
        file = only_path(folder)
    except UsageError:
        return None, _NOTHING
    return file, recorded(read_checkpoint(file, ReadOptions()))


def library_of(model_class: Any) -> str:
    """Return the library whose models a class makes: its name, or nothing."""
    bases = (base.__module__.partition(".")[0] for base in getattr(model_class, "__mro__", ()))
    return next((name for name in bases if name in ("transformers", "diffusers")), "")


def loaded_plain(model_class: Any, path: str | PathLike[str], options: Mapping[str, Any]) -> Any:
    """Return what `from_pretrained` makes of a file, original or swapped, in the original class.

    Raises:
        RefusedError, ModelError, MismatchError: see `swapped_weights`.
    """
    file, done = recorded_at(path)
    if file is None or not (done.effects or done.names):
        return model_class.from_pretrained(path, **options)
    with swapped_weights(file):
        return model_class.from_pretrained(path, **options)


def loaded_changed(
    model_class: Any,
    path: str | PathLike[str],
    change: Callable[[nn.Module], object],
    options: Mapping[str, Any],
) -> Any:
    """Return what `from_pretrained` makes of a file, original or swapped, in a changed model.

    Args:
        model_class: a class of transformers, or one of its Auto classes.
        path: what `from_pretrained` is given.
        change: puts drop-ins into a model that has no memory yet.
        options: further keywords of `from_pretrained`.

    Raises:
        RefusedError: where a local file cannot be read, or its recipe does not fit it.
        MismatchError: CS084 where the recipe does not fit the class.
    """
    file, done = recorded_at(path)
    wanted, place = _concrete(model_class, path, options), file or Path(path)

    def constructor(model: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        wanted.__init__(model, config, *args, **kwargs)
        check_no_fusion(getattr(config, "fusion_config", None), place)
        stored = tuple(ways_of_file(model, file, done, SAVES[0])) if file else ()
        change(model)
        open_more(tuple(_through(stored, model)), place)

    names = ("__module__", "__qualname__", "__doc__")
    members = {"__init__": constructor, **{name: getattr(wanted, name) for name in names}}
    derived = type(wanted)(wanted.__name__, (wanted,), members)
    with opening((), place):
        model, info = derived.from_pretrained(path, **{**options, "output_loading_info": True})
    model.__class__ = wanted
    _check_filled(model, info, place)
    save_as_original(model)
    return (model, info) if options.get("output_loading_info") else model


def _check_filled(model: Any, info: Mapping[str, Any], place: Path) -> None:
    """Refuse a drop-in whose tensors the library has made up: it tells of that in its log only.

    Raises:
        MismatchError: CS084.
    """
    from convsurgeon.integrations.drop_ins import places

    inside = {stem + name for stem, held in places(model, strict=False) for name in held.inner}
    odd = {*info["missing_keys"], *(name for name, *_ in info["mismatched_keys"])} & inside
    if odd:
        message = f"the file has nothing for {min(odd)}, or in another shape"
        raise MismatchError("CS084", message, where=place)


def _through(stored: tuple[Way, ...], model: Any) -> Iterator[Way]:
    """Yield the ways of a file's tensors into a model, through drop-ins where it has them."""
    of_file = {(way.begin, way.held): way for way in stored}
    for _, way in live_ways(model):
        first = of_file.pop((way.begin, (way.saved,)), None)
        if first is None:
            yield way
        else:
            yield replace(way, stored=first.stored, moves=(*first.moves, *way.moves))
    yield from of_file.values()


def _concrete(model_class: Any, path: str | PathLike[str], options: Mapping[str, Any]) -> Any:
    """Return the class that an Auto class would choose; any other class as it is.

    Raises:
        UsageError: CS090 where it would choose none.
    """
    choices = getattr(model_class, "_model_mapping", None)
    if choices is None:
        return model_class
    given = {name: options[name] for name in _OF_A_CONFIG if name in options}
    config = options.get("config") or import_module("transformers").AutoConfig.from_pretrained(
        path, **given
    )
    found = choices.get(type(config), None)
    if found is None:
        text = f"{model_class.__name__} has no class for {type(config).__name__}"
        raise UsageError("CS090", text, where="model_class")
    several = found if isinstance(found, (list, tuple)) else (found,)
    named = (one for one in several if one.__name__ in (config.architectures or ()))
    return next(named, several[0])
