"""An operation of a graph by one name, whether it is a module, a function or a method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor, fx, nn

from convsurgeon.dense.values import KNOWN

_TORCH = ("torch", "_operator", "operator", "math")


@dataclass(frozen=True, eq=False, slots=True)
class Call:
    """One operation.

    Attributes:
        node: of the graph.
        name: `ReLU` of a module of torch, `relu` of a function or a method, in place or not; of
            anything else with the module that defines it, so that no row of a table means it.
        module: that is called; None for a function.
    """

    node: fx.Node
    name: str
    module: nn.Module | None

    @classmethod
    def of(cls, node: fx.Node, root: nn.Module) -> Self:
        """Read a node."""
        target: Any = node.target
        if node.op == "call_module":
            module = root.get_submodule(target)
            kind = type(module)
            own = kind.__module__.startswith("torch.nn.modules.")
            return cls(node, kind.__name__ if own else f"{kind.__module__}.{kind.__name__}", module)
        if node.op == "call_function":
            home = str(getattr(target, "__module__", None) or "torch")
            name = str(getattr(target, "__name__", target))
            known = home.partition(".")[0] in _TORCH
            return cls(node, name.removesuffix("_") if known else f"{home}.{name}", None)
        return cls(
            node, str(target).removesuffix("_") if node.op == "call_method" else node.op, None
        )

    @property
    def place(self) -> str:
        """The module's name, or else the node's."""
        return str(self.node.target) if self.module is not None else self.node.name

    @property
    def value(self) -> Any:
        """What it gives at the native size, on a fake tensor."""
        return self.node.meta.get(KNOWN)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor that it gives; empty where that is none."""
        return shape_of(self.node)

    @property
    def source(self) -> fx.Node | None:
        """Its first argument, where that is computed too."""
        first = self.node.args[0] if self.node.args else self.node.kwargs.get("input")
        return first if isinstance(first, fx.Node) else None

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """Return an argument by its place behind the tensor, or by its name."""
        if len(self.node.args) > place:
            return self.node.args[place]
        return self.node.kwargs.get(name, default)

    def setting(self, place: int, name: str, default: Any = None) -> Any:
        """Return what a module holds, or a function is given, under one name."""
        if self.module is not None:
            return getattr(self.module, name, default)
        return self.argument(place, name, default)


def shape_of(node: fx.Node) -> tuple[int, ...]:
    """Return the shape of what a node gives at the native size; empty where that is no tensor."""
    value = node.meta.get(KNOWN)
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def ancestors(source: fx.Node) -> frozenset[fx.Node]:
    """Return a node with all that its value is computed from."""
    found: set[fx.Node] = set()
    pending = [source]
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            pending += node.all_input_nodes
    return frozenset(found)


ELEMENTWISE = frozenset({
    "ReLU", "ReLU6", "LeakyReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish", "Sigmoid", "Tanh",
    "Softplus", "Softsign", "Hardswish", "Hardsigmoid", "Hardtanh", "LogSigmoid", "Threshold",
    "Hardshrink", "Softshrink", "Tanhshrink",
    "relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "sigmoid", "tanh",
    "softplus", "softsign", "hardswish", "hardsigmoid", "hardtanh", "logsigmoid", "threshold",
    "hardshrink", "softshrink", "tanhshrink", "exp", "log", "log1p", "sqrt", "square", "abs", "neg",
    "clamp", "clamp_min", "clamp_max", "pow",
})  # fmt: skip
"""What treats every number alike and by itself, wherever it stands."""

AFFINE = frozenset({
    "Identity", "Dropout", "AlphaDropout", "dropout", "alpha_dropout", "contiguous", "clone",
    "detach", "to", "float", "double", "half", "bfloat16",
})  # fmt: skip
"""The same, and in inference the mean of its outputs is its output on the mean."""

ARITHMETIC = frozenset({
    "add", "sub", "mul", "div", "truediv", "true_divide", "iadd", "isub", "imul", "itruediv",
})  # fmt: skip
"""Of two tensors, or of a tensor and a number."""

FLATTENING = frozenset({"Flatten", "flatten", "view", "reshape"})
"""What keeps the order of all numbers, and may leave one axis of the image's."""
