"""transformers: its files name and cut tensors otherwise than its models do.

Since version 5 the library renames, merges and splits tensors while it loads. The tables for that
are asked for here and applied in the order in which `from_pretrained` applies them
(`transformers.core_model_loading.convert_and_load_state_dict_in_model`, read in 5.23): first all
renamings, then at most one conversion, then the base model's prefix is added or taken away.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from convsurgeon.errors import MismatchError

if TYPE_CHECKING:
    from torch import Tensor

Conversion = Callable[[dict[str, "Tensor"]], dict[str, "Tensor"]]
_Member = tuple[str, str, str]


def conversions(
    model: Any, given: Mapping[str, str], names: Collection[str]
) -> Iterator[tuple[tuple[str, ...], str, Conversion | None]]:
    """Yield which keys become which name, and through which conversion.

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
    merged: dict[str, list[_Member]] = {}
    # Some renamings wait for a key that stands earlier in this order.
    for key, taken in sorted(given.items(), key=lambda item: core.dot_natural_key(item[1])):
        name, pattern = core.rename_source_key(taken, renamings, converters, prefix, known)
        if name not in known and taken in known:
            # The key is the model's name already, and a renaming meant for others caught it.
            name, pattern = core.rename_source_key(taken, [], [], prefix, known)
        if pattern is None or name not in known:
            yield (key,), name, None
        else:
            merged.setdefault(name, []).append((key, taken, pattern))
    for name, members in merged.items():
        converter = by_pattern[members[0][2]]
        yield tuple(m[0] for m in members), name, _conversion(model, converter, name, members)


def ignored(model: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the patterns of names that a file may lack, and of those that it may hold in vain.

    The library keeps most of them in lists on the model; files from before version 4.31 hold
    buffers that are computed today, of which its loader knows by name.
    """
    missing = tuple(model._keys_to_ignore_on_load_missing or ())  # noqa: SLF001 (no other way)
    unexpected = tuple(model._keys_to_ignore_on_load_unexpected or ())  # noqa: SLF001
    for suffix, pattern in _COMPUTED:
        if any(name.endswith(suffix) for name, _ in model.named_buffers()):
            unexpected = (*unexpected, pattern)
    return missing, unexpected


_COMPUTED = (
    ("rotary_emb.inv_freq", r"rotary_emb\.inv_freq"),
    ("position_ids", r"(^|\.)position_ids$"),
)


def _tables(model: Any) -> tuple[Any, list[Any]]:
    try:
        from transformers import core_model_loading
        from transformers.conversion_mapping import get_model_conversion_mapping
    except ImportError:
        message = "this transformers cannot say how its files name tensors"
        raise MismatchError("CS084", message, hint="install transformers 5 or newer") from None
    return core_model_loading, get_model_conversion_mapping(model)


def _conversion(model: Any, converter: Any, name: str, members: list[_Member]) -> Conversion:
    def convert(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        # A converter keeps what it collects, and one entry of the table serves every layer.
        mine = deepcopy(converter)
        for key, taken, pattern in members:
            mine.add_tensor(name, taken, pattern, tensors[key])
        found = mine.convert(name, model=model, config=model.config)
        return {n: v[0] if isinstance(v, list) else v for n, v in found.items()}

    return convert
