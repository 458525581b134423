"""transformers: `from_pretrained` of a swapped checkpoint into the class that the original is for.

Read in transformers 5.23, modules conversion_mapping and core_model_loading: `from_pretrained`
copies the list of conversions that is registered for a class, or for its model type, then the one
called "legacy", which holds for every class; a model keeps those that matched one of its tensors,
and `save_pretrained` reverses them. Conversions registered for a class hide those of its model
type, and repeating these there would apply them twice to a model inside it. So what is needed here
stands behind "legacy", and its copies hold it only where `swapped_weights` is open.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context, ContextVar
from copy import deepcopy
from dataclasses import dataclass, replace
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convsurgeon.errors import MismatchError, UsageError
from convsurgeon.integrations.recorded import Recorded, recorded
from convsurgeon.rearrangement import Rearrangement
from convsurgeon.sources.builders.guard import without_memory
from convsurgeon.sources.builders.transformers import model_at
from convsurgeon.sources.config_file import read_object
from convsurgeon.sources.names import meanings
from convsurgeon.store import ReadOptions, only_path, read_checkpoint

if TYPE_CHECKING:
    from torch import Tensor

SAVES = ("original", "swapped")
"""What `save_pretrained` may write: the shapes of the original file, or those of the swapped."""

_EVERY_CLASS = "legacy"


@dataclass(frozen=True, slots=True)
class Way:
    """What becomes of one weight of the models that are loaded from one folder.

    Attributes:
        folder: that folder.
        pattern: finds the weight's name.
        move: from the shape in the file to that in the model; None where it stays as it is.
        reverse: the same for saving.
    """

    folder: Path
    pattern: str
    move: Rearrangement | None
    reverse: Rearrangement | None


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
    ways = tuple(_ways(file, done, saves)) if done.effects else ()
    token = _open.set((*ways, *_open.get()))
    try:
        if ways:
            _register(file)
        yield
    finally:
        _open.reset(token)


@dataclass(frozen=True, slots=True)
class Reshape:
    """What transformers calls a conversion operation: it asks for no more than these two members.

    Attributes:
        ways: the first that is for the model's folder and the weight's name counts.
    """

    ways: tuple[Way, ...]

    def convert(
        self, input_dict: Mapping[str, Any], *, full_layer_name: str, model: Any, **_: object
    ) -> dict[str, Tensor]:
        """Return the one tensor under the name that it gets.

        Args:
            input_dict: the tensor, or a list with it, under the pattern that its name matched.
            full_layer_name: the name that it gets.
            model: a PreTrainedModel; it knows what `from_pretrained` was given.

        Raises:
            ValueError: the tensor has another shape; the library then refuses the file.
        """
        (found,) = input_dict.values()
        (tensor,) = found if isinstance(found, list) else (found,)
        folder = Path(model.name_or_path).resolve()
        mine = (
            w for w in self.ways if w.folder == folder and re.search(w.pattern, full_layer_name)
        )
        way = next(mine, None)
        moved = _moved(tensor, way.move) if way and way.move else tensor
        return {full_layer_name: moved}

    @property
    def reverse_op(self) -> Reshape:
        """The operation that `save_pretrained` does."""
        return Reshape(tuple(replace(w, move=w.reverse, reverse=w.move) for w in self.ways))


def _moved(tensor: Tensor, move: Rearrangement) -> Tensor:
    if tuple(tensor.shape) != move.source:
        raise ValueError(f"shape {list(tensor.shape)} is not {list(move.source)}")
    return tensor.reshape(move.split).permute(move.axes).reshape(move.target).contiguous()


class _Everyones(list[Any]):
    """The list of conversions for every class; a copy ends with what is open where it is made."""

    def __deepcopy__(self, memo: dict[int, Any]) -> list[Any]:
        return [*deepcopy(list(self), memo), *_converters(_open.get())]


def _converters(ways: tuple[Way, ...]) -> Iterator[Any]:
    core: Any = import_module("transformers.core_model_loading")
    for pattern in dict.fromkeys(way.pattern for way in ways):
        # Patterns of two checkpoints may find one name, and the library takes the first that does.
        yield core.WeightConverter(pattern, pattern, [Reshape(ways)])


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
    if read_object(config).get("fusion_config"):
        # The library's own conversion comes first, and takes any two-dimensional weight as it is.
        message = "fusion_config asks transformers to make linear layers itself"
        hint = "take it out of the config, or restore the file"
        raise MismatchError("CS084", message, where=config, hint=hint)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    # In an empty context: what else is open is no conversion of the library's own.
    meaning = Context().run(meanings, model, tuple(done.effects), shapes)
    for key, effect in done.effects.items():
        way = effect.move.inverse()
        name = meaning[key].name
        if meaning[key].pattern is not None or shapes.get(name) != way.target:
            shown = list(shapes[name]) if name in shapes else "missing"
            message = f"{name} is {shown} in {type(model).__name__}, it was {list(way.target)}"
            raise MismatchError("CS084", message, where=f"{path}: {key}")
        reverse = way.inverse() if saves == "swapped" else None
        pattern = _pattern(name, model.base_model_prefix, shapes)
        yield Way(path.parent.resolve(), pattern, way, reverse)


def _pattern(name: str, prefix: str, names: Collection[str]) -> str:
    """Return what matches one name of a model, and what that is called in its base or head model.

    The library adds or takes away the base model's prefix after it has looked for a converter. A
    pattern is also what it is replaced by: the library strips from it what only looks around.
    """
    short = name.removeprefix(f"{prefix}.")
    alone = sum(f".{other}".endswith(f".{short}") for other in names) == 1
    begin = rf"(?<![^.]){re.escape(short)}" if alone else rf"^{re.escape(name)}"
    return f"{begin}(?!.)"
