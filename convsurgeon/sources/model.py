"""What a live model states about its layers, also one built without memory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Self

from convsurgeon.errors import ContradictionError, ModelError
from convsurgeon.evidence import Level, Statement
from convsurgeon.geometry import LINEAR, Refusal
from convsurgeon.sources.layers import examine
from convsurgeon.sources.names import Renamed

Naming = Callable[[Sequence[str], Collection[str]], Mapping[str, Renamed]]
"""Keys of a file, names of the model -> what each key is to the model."""

_NO_NAMES = "the file has none of the model's names"
_MATRIX = 2
_WRAPPERS = (
    "module.",
    "_orig_mod.",
    "model.",
    "module._orig_mod.",
    "_orig_mod.module.",
)
_PARTS = (
    "weight",
    "weight_v",
    "weight_orig",
    "parametrizations.weight.original",
    "parametrizations.weight.original0",
    "parametrizations.weight.original1",
)
"""Names under which a layer's weight, or what it is computed from, stands in a file."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer of the model.

    Attributes:
        statement: what the model says about it.
        shape: of its weight; None where the stored tensor is not the weight.
        tied: the names of what is the same tensor and no such layer, which is why it is refused.
    """

    statement: Statement
    shape: tuple[int, ...] | None
    tied: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class ModelSpeaker:
    """The layers of a model, under the names that a file gives them.

    Attributes:
        source: where the model comes from, as the report shows it.
        layers: by module name.
        names: every name of the model's state dict.
        drop: a prefix that the file has and the model has not.
        add: a prefix that the model has and the file has not.
        note: why the model says nothing about the file, or about a part of it; empty otherwise.
        naming: how the model's library names what it saves; None where files have its names.
        keys: of the file, with what the library takes each for; None where there is no naming.
    """

    source: str
    layers: Mapping[str, Layer] = field(repr=False)
    names: frozenset[str] = field(repr=False)
    drop: str = ""
    add: str = ""
    note: str = ""
    naming: Naming | None = field(default=None, repr=False)
    keys: Mapping[str, Renamed] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, model: Any, source: str) -> Self:
        """Read an nn.Module; no tensor is looked at.

        Raises:
            ModelError: CS052 without torch.
        """
        torch = need_torch()
        findings = examine(torch, model)
        layers = {}
        for name, found in findings.items():
            statement = Statement(Level.MODEL, source, found.form, found.geometry, found.refusal)
            layers[name] = Layer(statement, found.shape)
        owners: dict[int, set[str]] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            owners.setdefault(id(parameter), set()).add(name)
        for shared in owners.values():
            _untie(layers, shared)
        return cls(source, layers, frozenset(model.state_dict()))

    def for_names(self, names: Iterable[str]) -> Self:
        """Return the speaker for a file with these names.

        Names that are the model's own are taken as they are. Otherwise one wrapper's prefix may
        stand before all names of the file, or of the model, if nothing else differs.
        """
        given = frozenset(names)
        if self.naming:
            return self._named(self.naming, sorted(given))
        if given & self.names:
            return replace(self, drop="", add="", note="")
        for prefix in _WRAPPERS:
            if _differ_by(prefix, given, self.names):
                return replace(self, drop=prefix, add="", note="")
            if _differ_by(prefix, self.names, given):
                return replace(self, drop="", add=prefix, note="")
        return replace(self, note=f"{self.source}: {_NO_NAMES}")

    def untied(self, names: Iterable[str]) -> tuple[Self, list[str]]:
        """Return the speaker for a model whose tied weights are untied, and what is to be noted.

        A file that holds both tensors has nothing to copy: each is rewritten, or not, by itself.
        One that stores them once has no tensor for the second layer, and none is made up.

        Args:
            names: of the file's tensors, after `for_names`.
        """
        stored = {self._name(key) for key in names}
        layers, notes = dict(self.layers), []
        for module, layer in self.layers.items():
            own, others = f"{module}.weight".removeprefix("."), ", ".join(sorted(layer.tied))
            if not layer.tied:
                continue
            if own not in stored:
                where = "--untie can copy it in a live model only"
                notes.append(f"{own} is stored once, as {others}: {where}")
            elif layer.tied <= stored:
                told = layer.statement
                source = f"{told.source}; untied from {others}, which the file holds as well"
                told = replace(told, source=source, refusal=None)
                layers[module] = replace(layer, statement=told, tied=frozenset())
        return replace(self, layers=layers), notes

    def about(self, key: str, shape: tuple[int, ...]) -> Statement | None:
        """Return what the model says about the weight under `key`.

        Raises:
            ContradictionError: CS061 where the model's weight has another shape.
        """
        name = self._name(key)
        for part in _PARTS:
            if name != part and not name.endswith(f".{part}"):
                continue
            layer = self.layers.get(name.removesuffix(part).removesuffix("."))
            # What a weight is computed from belongs to the layer only if the model computes it.
            if layer and (part == "weight" or layer.shape is None):
                _check_shape(layer, key, shape, self.source)
                return layer.statement
        return None

    def _name(self, key: str) -> str:
        if self.keys is None:
            return key if key in self.names else self.add + key.removeprefix(self.drop)
        meant = self.keys.get(key)
        # What a conversion reshapes, stacks or splits is another tensor than the model's weight.
        return "" if meant is None or meant.pattern else meant.name

    def _named(self, naming: Naming, given: Sequence[str]) -> Self:
        """Ask the library, with each wrapper's prefix that all keys have taken away in turn."""
        prefixes = [p for p in _WRAPPERS if given and all(key.startswith(p) for key in given)]
        found = []
        for prefix in ("", *prefixes):
            meant = naming([key.removeprefix(prefix) for key in given], self.names)
            hits = sum(one.name in self.names for one in meant.values())
            found.append((hits, {prefix + key: one for key, one in meant.items()}))
        hits, keys = max(found, key=lambda pair: pair[0])
        note = self._converted(keys) if hits else f"{self.source}: {_NO_NAMES}"
        return replace(self, keys=keys, drop="", add="", note=note)

    def _converted(self, keys: Mapping[str, Renamed]) -> str:
        turned = {
            key: one.name for key, one in keys.items() if one.pattern and _is_weight(one.name)
        }
        layers = {
            key: self.layers.get(name.removesuffix(".weight")) for key, name in turned.items()
        }
        convs = sorted(k for k, layer in layers.items() if layer and layer.statement.form != LINEAR)
        if not convs:
            return ""
        more = f" and {len(convs) - 1} more" if convs[1:] else ""
        return f"{self.source} says nothing of what is converted on loading: {convs[0]}{more}"


def need_torch() -> Any:
    """Return torch.

    Raises:
        ModelError: CS052 where it is not installed.
    """
    try:
        import torch
        import torch.nn.utils.parametrize
    except ImportError:
        hint = "pip install 'convsurgeon[torch]'"
        raise ModelError("CS052", "a model as evidence needs torch", hint=hint) from None
    return torch


def _untie(layers: dict[str, Layer], names: set[str]) -> None:
    """Refuse layers that share one parameter and are not alike; say it of those that are."""
    modules = {name: name.removesuffix("weight").removesuffix(".") for name in names}
    known = {name: layers.get(module) for name, module in modules.items() if _is_weight(name)}
    kinds = {layer and (layer.statement.form, layer.statement.geometry) for layer in known.values()}
    alike = len(names) == len(known) and len(kinds) == 1
    for name, layer in known.items():
        # An embedding or a subclass keeps its own reason.
        if layer is None or layer.statement.refusal or len(names) == 1:
            continue
        others = ", ".join(sorted(names - {name}))
        told = layer.statement
        if alike:
            told = replace(told, source=f"{told.source}; one tensor with {others}")
        else:
            text = f"the same tensor is {others}, of another kind of layer"
            told = replace(told, refusal=Refusal("CS016", text))
        apart = frozenset() if alike else frozenset(names - {name})
        layers[modules[name]] = replace(layer, statement=told, tied=apart)


def _is_weight(name: str) -> bool:
    return name.rpartition(".")[2] == "weight"


def _differ_by(prefix: str, wrapped: frozenset[str], plain: frozenset[str]) -> bool:
    """Tell whether one set of names is the other behind a prefix; tied names may be missing."""
    if not wrapped or not all(name.startswith(prefix) for name in wrapped):
        return False
    bare = {name.removeprefix(prefix) for name in wrapped}
    return bool(bare & plain) and (bare <= plain or plain <= bare)


def _check_shape(layer: Layer, key: str, shape: tuple[int, ...], source: str) -> None:
    expected = layer.shape
    if expected is None or expected == shape:
        return
    one_matrix = (len(shape) == _MATRIX) != (len(expected) == _MATRIX)
    if one_matrix and shape[0] == expected[0] and prod(shape) == prod(expected):
        return  # another tool flattened it, or the reverse: the plan lists it as undecided
    text = f"{source} has a weight {list(expected)}, the file {list(shape)}"
    hint = "build the model as it was when the file was written"
    raise ContradictionError("CS061", text, where=key, hint=hint)
