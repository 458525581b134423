"""transformers: `from_pretrained` of a swapped checkpoint into the class that the original is for.

Read in transformers 5.23, modules conversion_mapping and core_model_loading: `from_pretrained`
copies the list of conversions that is registered for a class, or for its model type, then the one
called "legacy", which holds for every class; a model keeps those that matched one of its tensors,
and `save_pretrained` reverses them. Conversions registered for a class hide those of its model
type, and repeating these there would apply them twice to a model inside it. So what is needed here
stands behind "legacy", and its copies hold it only where `swapped_weights` is open.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, ContextVar
from copy import deepcopy
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any

from convsurgeon.errors import MismatchError, UsageError
from convsurgeon.integrations.recorded import Recorded, recorded
from convsurgeon.integrations.ways import Reshape, Way, beginning, converters
from convsurgeon.sources.builders.guard import without_memory
from convsurgeon.sources.builders.transformers import model_at
from convsurgeon.sources.config_file import read_object
from convsurgeon.sources.names import meanings
from convsurgeon.store import ReadOptions, only_path, read_checkpoint
from convsurgeon.tree import CHILD

SAVES = ("original", "swapped")
"""What `save_pretrained` may write: the shapes of the original file, or those of the swapped."""

_EVERY_CLASS = "legacy"


_open: ContextVar[tuple[Way, ...]] = ContextVar("ways of swapped weights", default=())


@contextmanager
def swapped_weights(
    path: str | PathLike[str],
    *,
    saves: str = SAVES[0],
    recipe: str | PathLike[str] | None = None,
) -> Iterator[None]:
    """Let `from_pretrained` of transformers read a swapped checkpoint into the original class.

    Weights that the recipe names get the shape that they had, bit for bit; without a recipe nothing
    is converted. All other tensors, all other folders, and all loading outside of this context or
    in other threads, are as before. A `fusion_config` given to `from_pretrained` itself is not seen
    here, and must not be combined with this.

    Args:
        path: the swapped file, its index, or its folder, which is what `from_pretrained` has to
            be given; `config.json` in it names the class that knows the tensors' names.
        saves: what `save_pretrained` of a model loaded here writes, then and later: "original" (the
            class's own shapes) or "swapped" (those of the swapped file, but no recipe).
        recipe: the swapped checkpoint that holds the recipe, where `path` has lost it.

    Raises:
        UsageError: CS090 for another word in `saves`, or a folder with several checkpoints.
        ModelError: CS052 or CS062 where torch, transformers, or the class in the config is missing.
        MismatchError: CS084 where the recipe does not fit that class, `config.json` has a
            `fusion_config`, or transformers is older than its tables of conversions.
        RefusedError: where a file cannot be read, or its recipe does not fit it (CS082).
    """
    if saves not in SAVES:
        raise UsageError("CS090", f"{saves!r} is none of 'original', 'swapped'", where="saves")
    file = only_path(Path(path))
    described = only_path(Path(path if recipe is None else recipe))
    done = recorded(read_checkpoint(described, ReadOptions()))
    ways = tuple(_ways(file, done, saves)) if done.effects or done.names else ()
    with opening(ways, file):
        yield


@contextmanager
def opening(ways: tuple[Way, ...], path: Path) -> Iterator[None]:
    """Let what is loaded within go these ways, and whatever `open_more` adds.

    Args:
        ways: they go before those that are open already.
        path: that they are for, in errors.

    Raises:
        MismatchError: CS084 where transformers is older than its tables of conversions.
    """
    token = _open.set((*ways, *_open.get()))
    try:
        if ways:
            _register(path)
        yield
    finally:
        _open.reset(token)


def open_more(ways: tuple[Way, ...], path: Path) -> None:
    """Open further ways until the context of the innermost `opening` ends; see there."""
    _open.set((*ways, *_open.get()))
    if ways:
        _register(path)


class _Everyones(list[Any]):
    """The list of conversions for every class; a copy ends with what is open where it is made."""

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return [*deepcopy(list(self), memo), *converters(_open.get())]


def _register(path: Path) -> None:
    """Put such a list into the library's table, where none is.

    It stays: a copy made elsewhere equals the list that was there, and taking it out again could
    take away what others registered in the meantime, or what another thread still needs.

    Raises:
        MismatchError: CS084 where the library makes nothing of it.
    """
    tables: Any = import_module("transformers.conversion_mapping")
    register = getattr(tables, "register_checkpoint_conversion_mapping", None)
    if register is not None and not _heard(tables):
        everyones = tables.get_checkpoint_conversion_mapping(_EVERY_CLASS) or ()
        register(_EVERY_CLASS, _Everyones(everyones), overwrite=True)
    if not _heard(tables):
        message = "this transformers takes no conversions for files of every class"
        hint = "convsurgeon.load reads the file into a model without them"
        raise MismatchError("CS084", message, where=path, hint=hint)


def _heard(tables: Any) -> bool:
    copied = tables.get_checkpoint_conversion_mapping(_EVERY_CLASS) or ()
    operations = (op for entry in copied for op in getattr(entry, "operations", ()))
    return any(isinstance(op, Reshape) for op in operations)


def _ways(path: Path, done: Recorded, saves: str) -> Iterator[Way]:
    """Yield what becomes of each weight, by its name in the class that the config names.

    Raises:
        ModelError: CS052 or CS062, see `swapped_weights`.
        MismatchError: CS084 where the class has no such weights, or the config asks for fusion.
    """
    config = path.parent / "config.json"
    model = model_at(str(config), without_memory)
    check_no_fusion(read_object(config).get("fusion_config"), config)
    yield from ways_of_file(model, path, done, saves)


def check_no_fusion(fusion: object, where: object) -> None:
    """Refuse a config by which the library makes linear layers itself.

    Raises:
        MismatchError: CS084.
    """
    if fusion:
        # The library's own conversion comes first, and takes any two-dimensional weight as it is.
        message = "fusion_config asks transformers to make linear layers itself"
        hint = "take it out of the config, or restore the file"
        raise MismatchError("CS084", message, where=where, hint=hint)


def ways_of_file(model: Any, path: Path, done: Recorded, saves: str) -> Iterator[Way]:
    """Yield what becomes of each weight and bias that a recipe speaks of, in the original class.

    Args:
        model: an instance, as its class builds it; without memory will do.
        path: the file or its index.
        done: what its recipes say.
        saves: see `swapped_weights`.

    Raises:
        MismatchError: CS084 where the class has no such weights.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    folder = path.parent.resolve()
    for key, name in _names(model, shapes, path, done).items():
        effect, stored, held = done.effects.get(key), *_rests(key, done)
        begin = beginning(name, held, model.base_model_prefix, shapes)
        saved = stored if saves == "swapped" else held
        moves = (effect.move.inverse(),) if effect else ()
        back = (effect.move,) if effect and saves == "swapped" else ()
        yield Way(begin, stored, (held,), saved, moves, back, folder=folder)
        if stored != held:
            bias, own, kept = (
                f"{rest.removesuffix('weight')}bias" for rest in (stored, held, saved)
            )
            yield Way(begin, bias, (own,), kept, folder=folder)


def _rests(key: str, done: Recorded) -> tuple[str, str]:
    """Return what follows the module's name in a file, and what did so at first."""
    inner, first = f"{CHILD}.weight", done.names.get(key, key)
    if first == key:
        return "weight", "weight"
    return (inner, "weight") if len(key) > len(first) else ("weight", inner)


def _names(
    model: Any, shapes: Mapping[str, tuple[int, ...]], path: Path, done: Recorded
) -> dict[str, str]:
    """Return each changed weight's name in the model, by its key in the file.

    Raises:
        MismatchError: CS084 where the model has no such weight, or the library takes its new name
            for something else.
    """
    keys = sorted({*done.effects, *(key for key in done.names if key.endswith("weight"))})
    first = {key: done.names.get(key, key) for key in keys}
    # In an empty context: what else is open is no conversion of the library's own.
    meaning = Context().run(meanings, model, tuple({*first, *first.values()}), shapes)
    for key, effect in done.effects.items():
        one = meaning[first[key]]
        shape = shapes.get(one.name)
        if one.pattern is not None or shape != effect.before:
            shown, was = "missing" if shape is None else list(shape), list(effect.before)
            message = f"{one.name} is {shown} in {type(model).__name__}, it was {was}"
            raise MismatchError("CS084", message, where=f"{path}: {key}")
    for key in first:
        stored, held = _rests(key, done)
        expected = f".{meaning[first[key]].name.removesuffix(held)}{stored}"
        now = f".{meaning[key].name}"
        if stored != held and not (expected.endswith(now) or now.endswith(expected)):
            message = f"transformers takes it for {now[1:]}, not for {expected[1:]}"
            raise MismatchError("CS084", message, where=f"{path}: {key}", hint="restore the file")
    return {key: meaning[first[key]].name for key in first}
