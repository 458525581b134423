"""The graph of an exported program, as far as its layers need it: who uses which tensor, and where.

The JSON follows torch/_export/serde/schema.py (version 8): `Node` has a target, named inputs and
metadata, in which `nn_module_stack` lists `key,path,class` of the modules around it, outermost
first, joined by semicolons.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Node:
    """One operation.

    Attributes:
        target: what it calls, e.g. `torch.ops.aten.conv2d.default`.
        inputs: by name; those that have their default value are left out.
        path: of the innermost module that it belongs to.
        kind: the class of that module, with the name of its Python module; empty where unknown.
    """

    target: str
    inputs: Mapping[str, Any]
    path: str
    kind: str

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """Read a node."""
        stack = data["metadata"].get("nn_module_stack", "")
        path, kind = stack.rsplit(";", 1)[-1].rsplit(",", 2)[1:] if "," in stack else ("", "")
        inputs = {one["name"]: one["arg"] for one in data["inputs"]}
        return cls(data["target"], inputs, path, kind)

    def value(self, name: str, default: Any = None) -> Any:
        """Return a number, a text or a list of numbers; the default where it is left out.

        Raises:
            ValueError: where it is something else, such as a size known at run time only.
        """
        if name not in self.inputs:
            return default
        (kind, value), *_ = self.inputs[name].items()
        if kind not in {"as_int", "as_ints", "as_string", "as_bool"}:
            raise ValueError(f"{name} is {kind}")
        return value


@dataclass(frozen=True, slots=True)
class Graph:
    """An exported program.

    Attributes:
        nodes: all operations; one that holds a graph of its own is one operation.
        shapes: of each parameter, by its name in the state dict; None where a size is dynamic.
        values: the names that a parameter has in the graph; several for one that is tied.
    """

    nodes: tuple[Node, ...]
    shapes: Mapping[str, tuple[int, ...] | None]
    values: Mapping[str, frozenset[str]]

    @property
    def names(self) -> list[str]:
        """The names of the state dict."""
        return list(self.shapes)

    @classmethod
    def of(cls, module: Mapping[str, Any], weights: Mapping[str, Any]) -> Self:
        """Read the graph and the table of weights: two names with one member are one tensor."""
        specs = [spec.get("parameter") or spec.get("buffer") for spec in _specs(module)]
        named = {
            spec.get("parameter_name") or spec.get("buffer_name"): spec["arg"]["name"]
            for spec in specs
            if spec
        }
        files: dict[str, set[str]] = {}
        for name, weight in weights.items():
            values = {named[name]} if name in named else set()
            files.setdefault(weight["path_name"], set()).update(values)
        values_ = {name: frozenset(files[w["path_name"]]) for name, w in weights.items()}
        shapes = {name: _shape(weight["tensor_meta"]) for name, weight in weights.items()}
        nodes = tuple(Node.of(node) for node in module["graph"]["nodes"])
        return cls(nodes, shapes, values_)

    def users(self, name: str) -> Iterator[tuple[Node, str]]:
        """Yield each operation that takes a tensor, and as which input."""
        for node in self.nodes:
            for role, argument in node.inputs.items():
                if self.values[name] & _tensors(argument):
                    yield node, role


def _specs(module: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    specs: list[Mapping[str, Any]] = module["signature"]["input_specs"]
    return specs


def _tensors(argument: Any) -> frozenset[str]:
    """Return every name of a tensor in an argument, in lists too."""
    found: set[str] = set()
    pending = [argument]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        elif isinstance(value, dict):
            # The names inside a nested graph are its own.
            pending += [inner for kind, inner in value.items() if kind != "as_graph"]
            if isinstance(value.get("name"), str):
                found.add(value["name"])
    return frozenset(found)


def _shape(meta: Mapping[str, Any] | None) -> tuple[int, ...] | None:
    sizes = [size.get("as_int") for size in meta["sizes"]] if meta else [None]
    known = tuple(size for size in sizes if size is not None)
    return known if len(known) == len(sizes) else None
