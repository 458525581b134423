"""Under which names a model's tensors stand in a file that its library saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True, slots=True)
class Saved:
    """The tensors of a file.

    Attributes:
        tensors: name in the file -> tensor, in the order of the model.
        names: name in the model -> name in the file; without what is not saved under any.
        tied: name in the file that a tied tensor would have -> the name that it is saved under.
    """

    tensors: Mapping[str, Any]
    names: Mapping[str, str]
    tied: Mapping[str, str]


def saved_tensors(model: Any, source: str) -> Saved:
    """Return what the library would save of the model, whichever library it is."""
    state = model.state_dict()
    if source != "transformers":
        tensors = {name: value for name, value in state.items() if hasattr(value, "shape")}
        return Saved(tensors, {name: name for name in tensors}, {})
    return _of_transformers(model, state)


def _of_transformers(model: Any, state: dict[str, Any]) -> Saved:
    """Do what `PreTrainedModel.save_pretrained` of transformers 5 does with names."""
    loading = import_module("transformers.core_model_loading")
    modeling = import_module("transformers.modeling_utils")
    for name in model._keys_to_ignore_on_save or ():  # noqa: SLF001 - save_pretrained reads it too
        state.pop(name, None)
    owners = {name: id(model.get_parameter_or_buffer(name)) for name in state}
    state = modeling.remove_tied_weights_from_state_dict(state, model)
    kept = {owners[name]: name for name in state}
    tied = {name: kept[owner] for name, owner in owners.items() if name not in state}
    doubles = {name: state[tied[name]].clone() for name in tied}
    tensors = loading.revert_weight_conversion(model, dict(state))
    found = {id(tensor): name for name, tensor in tensors.items()}
    names = {name: found[id(value)] for name, value in state.items() if id(value) in found}
    return Saved(tensors, names, _renamed(model, doubles, tied, names))


def _renamed(
    model: Any, doubles: dict[str, Any], tied: Mapping[str, str], names: Mapping[str, str]
) -> dict[str, str]:
    """Return `tied` with the names that both tensors would have in a file."""
    if not doubles:
        return {}
    loading = import_module("transformers.core_model_loading")
    found = {id(t): name for name, t in loading.revert_weight_conversion(model, doubles).items()}
    return {
        found.get(id(t), name): names.get(tied[name], tied[name]) for name, t in doubles.items()
    }
