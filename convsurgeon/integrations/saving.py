"""`save_pretrained` of transformers, for models with drop-ins: it writes the original's tensors.

Read in transformers 5.23, `core_model_loading.revert_weight_conversion`: what is saved goes through
the conversions on the model, or else through those of its class, backwards. The drop-ins' are put
on the model behind them. Without that the library writes `proj.linear.weight`, and its next
`from_pretrained` makes up the weight that it does not find.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from convsurgeon.integrations.ways import Reshape, Way, beginning, converters

if TYPE_CHECKING:
    from torch import nn

_ON_A_MODEL = "_weight_conversions"


class _OfItsClass(list[Any]):
    """The conversions of a model that had none of its own, because nobody loaded it."""


def save_as_original(model: nn.Module) -> None:
    """Let every transformers model inside of a model, itself included, save what it was.

    To be called when drop-ins were put in place or taken out. Other models are left alone.
    """
    # Where the library is not loaded, no model of its can exist: it need not be imported to ask.
    modeling = sys.modules.get("transformers.modeling_utils")
    if modeling is None or not find_spec("transformers.core_model_loading"):
        return
    for module in model.modules():
        if isinstance(module, modeling.PreTrainedModel):
            _save_as_original(module)


def _save_as_original(model: Any) -> None:
    ways, before = tuple(live_ways(model)), vars(model).get(_ON_A_MODEL)
    if not ways and not any(map(_is_ours, before or ())):
        return
    if not ways and isinstance(before, _OfItsClass):
        delattr(model, _ON_A_MODEL)
        return
    others = _OfItsClass(_of_its_class(model)) if before is None else before
    kept = [entry for entry in others if not _is_ours(entry)]
    mine = (_unless_converted(name, way, kept) for name, way in ways)
    setattr(model, _ON_A_MODEL, type(others)([*kept, *converters(tuple(mine))]))


def live_ways(model: Any) -> Iterator[tuple[str, Way]]:
    """Yield what becomes of an original file's tensors in the drop-ins of a model, and back.

    Each with the name that the plain layer's tensor has in the model. The state dict is not asked
    for: hooks on it are not ours to run, and under sharding it gathers every weight.
    """
    from convsurgeon.integrations.drop_ins import places

    found = tuple(places(model, strict=False))  # an adapter saves its own tensors
    tensors = (model.named_parameters, model.named_buffers) if found else ()
    names = {name for each in tensors for name, _ in each(remove_duplicate=False)}
    names.update(stem + held.outer for stem, held in found)
    for stem, held in found:
        moves = (held.move,) if held.move else ()
        back = tuple(move.inverse() for move in moves)
        begin = beginning(stem + held.outer, held.outer, model.base_model_prefix, names)
        way = Way(begin, held.outer, held.inner, held.outer, moves, back, held.rows)
        yield stem + held.outer, way


def _unless_converted(name: str, way: Way, others: Sequence[Any]) -> Way:
    """Return the way, closed for saving where the library converts this tensor by itself.

    Of two conversions it would do one, and write what it cannot read again.
    """
    core: Any = import_module("transformers.core_model_loading")
    # That of a swapped file that was read into the plain layer gives way to the drop-in's.
    found = [e for e in others if isinstance(e, core.WeightConverter) and not _reshapes(e)]
    _, pattern = core.apply_converters(name, [entry.reverse_transform() for entry in found])
    if pattern is None:
        return way
    text = "the library converts it itself; convsurgeon.restore_module(model) before saving"
    return replace(way, unsaved=text)


def _is_ours(entry: Any) -> bool:
    return any(way.folder is None for operation in _reshapes(entry) for way in operation.ways)


def _reshapes(entry: Any) -> list[Reshape]:
    return [op for op in getattr(entry, "operations", ()) if isinstance(op, Reshape)]


def _of_its_class(model: Any) -> list[Any]:
    """Return what the library reverses for a model that nobody loaded."""
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import PrefixChange
    except ImportError:  # older than these tables: it saves the names that the model has
        return []
    found = get_model_conversion_mapping(model, add_legacy=False)
    return [entry for entry in found if not isinstance(entry, PrefixChange)]
