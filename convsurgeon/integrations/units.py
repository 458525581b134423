"""Which tensors of a file become which tensors of a model."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convsurgeon.errors import MismatchError, UsageError
from convsurgeon.integrations.transformers import conversions, ignored

if TYPE_CHECKING:
    from torch import Tensor, nn

KeyMap = Mapping[str, str] | Callable[[str], str]
"""From a key of the file to a name of the model; a key that a mapping does not hold stays."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Tensors of a file that become tensors of a model together.

    Attributes:
        keys: in the file.
        name: what the model calls the result, or the first of several.
        convert: makes the results, by their names; None where one tensor is one tensor.
    """

    keys: tuple[str, ...]
    name: str
    convert: Callable[[dict[str, Tensor]], dict[str, Tensor]] | None = None

    def run(self, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the model's tensors by name.

        Args:
            tensors: those of the file by key; on the meta device where only shapes are asked for.

        Raises:
            MismatchError: CS084 where the library's conversion fails.
        """
        if self.convert is None:
            return {self.name: tensors[self.keys[0]]}
        try:
            return self.convert(tensors)
        except Exception as error:
            # The conversion is the library's, and so is whatever it raises.
            message = f"the library's conversion to {self.name} fails: {error}"
            raise MismatchError("CS084", message, where=self.keys[0]) from error


@dataclass(frozen=True, slots=True)
class Translation:
    """A file's keys in a model's terms.

    Attributes:
        units: every key of the file, each in one unit.
        missing: patterns of names that the library says a file need not hold.
        unexpected: patterns of names that the library says a file may hold in vain.
    """

    units: tuple[Unit, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()

    def may_lack(self, name: str) -> bool:
        """Tell whether a file without this name is complete all the same."""
        return any(re.search(pattern, name) for pattern in self.missing)

    def may_drop(self, name: str) -> bool:
        """Tell whether a tensor that would have this name may be left in the file."""
        return any(re.search(pattern, name) for pattern in self.unexpected)


def translate(
    model: nn.Module, keys: Mapping[str, str], names: Collection[str], key_map: KeyMap | None
) -> Translation:
    """Translate the keys of a file for a model.

    Args:
        model: a transformers model uses its own conversions; every other one is taken to save
            tensors under the names that they have in it.
        keys: of the file, and what each was called before a swap.
        names: what the model calls its tensors.
        key_map: applied to the latter first.

    Raises:
        MismatchError: CS084 for a transformers model of a version without conversion tables.
        UsageError: CS090 for a `key_map` that gives no names.
    """
    given = {key: _mapped(name, key_map) for key, name in keys.items()}
    # Where the library is not loaded, no model of its can exist: it need not be imported to ask.
    modeling = sys.modules.get("transformers.modeling_utils")
    if modeling is None or not isinstance(model, modeling.PreTrainedModel):
        return Translation(tuple(Unit((key,), name) for key, name in given.items()))
    found = conversions(model, given, names)
    return Translation(tuple(Unit(*unit) for unit in found), *ignored(model))


def _mapped(key: str, key_map: Any) -> str:
    if key_map is None:
        return key
    if not isinstance(key_map, Mapping) and not callable(key_map):
        text = f"a {type(key_map).__name__} is neither a mapping nor a function"
        raise UsageError("CS090", text, where="key_map")
    found: object = key_map.get(key, key) if isinstance(key_map, Mapping) else key_map(key)
    if not isinstance(found, str):
        raise UsageError("CS090", f"it makes {found!r} of {key!r}, no name", where="key_map")
    return found
