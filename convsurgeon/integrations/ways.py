"""What becomes of a tensor of a file in a model of transformers, and of the model's in a file.

The library calls it a conversion: patterns of names on either side, and operations. It reverses
those that a model was loaded with when it saves the model, in the order last to first.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convsurgeon.rearrangement import Rearrangement

if TYPE_CHECKING:
    from torch import Tensor

Moves = tuple[Rearrangement, ...]


@dataclass(frozen=True, slots=True)
class Way:
    """What becomes of one weight or bias.

    Names are that of a module, which `begin` finds, and what follows it on each side.

    Attributes:
        begin: finds the module's name, with its last dot, wherever the base model's prefix is.
        stored: what follows it in the file: `weight`, `linear.weight`.
        held: what follows it in the model; several where the model holds a tensor in parts.
        saved: what follows it in a file that the library writes.
        moves: from the tensor in the file to the one in the model, its parts joined.
        back: from that to the one that is saved.
        rows: of each part; empty where there is one.
        folder: the models that are loaded from there; None for whatever model the way is given to.
        unsaved: why the tensor cannot be saved; empty where it can.
    """

    begin: str
    stored: str
    held: tuple[str, ...]
    saved: str
    moves: Moves = ()
    back: Moves = ()
    rows: tuple[int, ...] = ()
    folder: Path | None = None
    unsaved: str = ""

    @property
    def source(self) -> str:
        """Finds the tensor's name in the file."""
        return self._pattern(self.stored)

    @property
    def targets(self) -> tuple[str, ...]:
        """Find the names in the model."""
        return tuple(map(self._pattern, self.held))

    def _pattern(self, rest: str) -> str:
        return f"{self.begin}{re.escape(rest)}(?!.)"


@dataclass(frozen=True, slots=True)
class Reshape:
    """What the library calls a conversion operation: it asks for no more than these two members.

    Attributes:
        ways: the first that is for the model's folder and the tensor's name counts.
        saving: whether models are written; else they are read.
    """

    ways: tuple[Way, ...]
    saving: bool = False

    def convert(
        self, input_dict: Mapping[str, Any], *, full_layer_name: str, model: Any, **_: object
    ) -> dict[str, Tensor]:
        """Return tensors under the names that they get.

        Args:
            input_dict: each tensor, or a list with it, under the pattern that its name matched.
            full_layer_name: the name that the first one is to get.
            model: a PreTrainedModel; it knows what `from_pretrained` was given.

        Raises:
            ValueError: a tensor has another shape, or cannot be saved; the library then refuses.
        """
        import torch

        found = [one[0] if isinstance(one, list) else one for one in input_dict.values()]
        way = self._way(full_layer_name, model)
        if way is None:
            (tensor,) = found
            return {full_layer_name: tensor}
        if self.saving and way.unsaved:
            raise ValueError(f"{full_layer_name}: {way.unsaved}")
        if self.saving:
            stem = full_layer_name.removesuffix(way.stored)
            return {stem + way.saved: _moved(_joined(found), way.back)}
        stem = full_layer_name.removesuffix(way.held[0])
        whole = _moved(found[0], way.moves)
        moved = torch.split(whole, list(way.rows)) if way.rows else (whole,)
        return {stem + rest: one for rest, one in zip(way.held, moved, strict=True)}

    @property
    def reverse_op(self) -> Reshape:
        """The operation of the other direction."""
        return Reshape(self.ways, not self.saving)

    def _way(self, name: str, model: Any) -> Way | None:
        folder = Path(model.name_or_path).resolve()
        mine = (way for way in self.ways if way.folder in (None, folder))
        found = ((way, way.source if self.saving else way.targets[0]) for way in mine)
        return next((way for way, pattern in found if re.search(pattern, name)), None)


def converters(ways: Sequence[Way]) -> Iterator[Any]:
    """Yield what the library is to be given."""
    core: Any = import_module("transformers.core_model_loading")
    for source, targets in dict.fromkeys((way.source, way.targets) for way in ways):
        # Patterns of two checkpoints may find one name, and the library takes the first that does.
        yield core.WeightConverter([source], list(targets), [Reshape(tuple(ways))])


def _joined(parts: Sequence[Tensor]) -> Tensor:
    import torch

    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _moved(tensor: Tensor, moves: Moves) -> Tensor:
    for move in moves:
        if tuple(tensor.shape) != move.source:
            raise ValueError(f"shape {list(tensor.shape)} is not {list(move.source)}")
        tensor = tensor.reshape(move.split).permute(move.axes).reshape(move.target)
    return tensor.contiguous() if moves else tensor


def beginning(weight: str, rest: str, prefix: str, names: Collection[str]) -> str:
    """Return what finds the module of a weight in a model, and in its base or head model.

    The library adds or takes away the base model's prefix after it has looked for a converter. A
    pattern is also what it is replaced by: the library strips from it what only looks around.

    Args:
        weight: its name in the model.
        rest: what follows the module's name in it.
        prefix: the base model's name in a model with a head.
        names: of all tensors of the model.
    """
    short = weight.removeprefix(f"{prefix}.")
    alone = sum(f".{other}".endswith(f".{short}") for other in names) == 1
    whole = short if alone else weight
    stem = whole.removesuffix(rest)
    return rf"(?<![^.]){re.escape(stem)}" if alone else rf"^{re.escape(stem)}"
