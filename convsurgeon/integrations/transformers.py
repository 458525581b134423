"""transformers: its files name and cut tensors otherwise than its models do.

Which key becomes which name, `convsurgeon.sources.names` asks the library; what a conversion makes
of the tensors, and which tensors a file may lack, is asked here. `swapped_weights` is the other way
round: it lets the library's own `from_pretrained` read a swapped checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from convsurgeon.integrations.conversions import swapped_weights
from convsurgeon.sources.names import Renamed, renamed

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Conversion", "conversions", "ignored", "swapped_weights"]

Conversion = Callable[[dict[str, "Tensor"]], dict[str, "Tensor"]]


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
    merged: dict[str, list[Renamed]] = {}
    for one in renamed(model, given, names):
        if one.pattern is None:
            yield (one.key,), one.name, None
        else:
            merged.setdefault(one.name, []).append(one)
    for name, members in merged.items():
        yield tuple(one.key for one in members), name, _conversion(model, name, members)


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


def _conversion(model: Any, name: str, members: list[Renamed]) -> Conversion:
    def convert(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        # A converter keeps what it collects, and one entry of the table serves every layer.
        mine = deepcopy(members[0].converter)
        for one in members:
            mine.add_tensor(name, one.taken, one.pattern, tensors[one.key])
        found = mine.convert(name, model=model, config=model.config)
        return {n: v[0] if isinstance(v, list) else v for n, v in found.items()}

    return convert
