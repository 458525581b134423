"""How transformers names what it saves: the keys of a file -> the names of a live model.

Since version 5 the library renames, merges and splits tensors while it loads. The tables for that
are asked for here and applied in the order in which `from_pretrained` applies them
(`transformers.core_model_loading.convert_and_load_state_dict_in_model`, read in 5.23): first all
renamings, then at most one conversion, then the base model's prefix is added or taken away.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from convsurgeon.errors import MismatchError


@dataclass(frozen=True, slots=True)
class Renamed:
    """What a key of a file is to a model.

    Attributes:
        key: in the file.
        taken: what the library is to take the key for.
        name: of the tensor in the model; one that the model has not where the key means nothing.
        pattern: of the conversion that the tensor goes through; None where it stays as it is.
        converter: that conversion; None where the tensor stays as it is.
    """

    key: str
    taken: str
    name: str
    pattern: str | None = None
    converter: Any = None


def renamed(model: Any, given: Mapping[str, str], names: Collection[str]) -> Iterator[Renamed]:
    """Yield what each key is to the model, in the order in which the library asks.

    Args:
        model: a PreTrainedModel.
        given: the keys of the file, and what the library is to take each for.
        names: what the model calls its tensors.

    Raises:
        MismatchError: CS084 where the library is older than its conversion tables.
    """
    core, table = _tables(model)
    renamings = [entry for entry in table if isinstance(entry, core.WeightRenaming)]
    converters = [entry for entry in table if isinstance(entry, core.WeightConverter)]
    by_pattern = {p: entry for entry in converters for p in entry.source_patterns}
    known = dict.fromkeys(names, True)
    prefix = model.base_model_prefix
    # Some renamings wait for a key that stands earlier in this order.
    for key, taken in sorted(given.items(), key=lambda item: core.dot_natural_key(item[1])):
        name, pattern = core.rename_source_key(taken, renamings, converters, prefix, known)
        if name not in known and taken in known:
            # The key is the model's name already, and a renaming meant for others caught it.
            name, pattern = core.rename_source_key(taken, [], [], prefix, known)
        if pattern is None or name not in known:
            yield Renamed(key, taken, name)
        else:
            yield Renamed(key, taken, name, pattern, by_pattern[pattern])


def meanings(model: Any, keys: Sequence[str], names: Collection[str]) -> dict[str, Renamed]:
    """Return what each key is to the model.

    Raises:
        MismatchError: CS084, see `renamed`.
    """
    return {one.key: one for one in renamed(model, {key: key for key in keys}, names)}


def _tables(model: Any) -> tuple[Any, list[Any]]:
    try:
        from transformers import core_model_loading
        from transformers.conversion_mapping import get_model_conversion_mapping
    except ImportError:
        message = "this transformers cannot say how its files name tensors"
        raise MismatchError("CS084", message, hint="install transformers 5 or newer") from None
    return core_model_loading, get_model_conversion_mapping(model)
