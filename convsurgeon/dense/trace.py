"""One forward of a model as a graph in which the shape of every value is known.

torch.fx follows a forward with stand-ins for tensors. Its own do not know how many axes a tensor
has, so that it loses code as common as `for size in x.size()[1:]`. Those here carry a tensor
without values (a fake one) along, computed by the very operation that is recorded: ranks are plain
numbers to the code, while sizes stay symbols and hold for other images.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import signature
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from convsurgeon.dense.values import KNOWN, UntraceableError, compute, copied, empty

IMAGES = 1009
"""How many images a forward is followed on. They take no memory, and nobody means this number."""
_MAX_MESSAGE = 200
_LIBRARIES = tuple(str(Path(file).parent) for file in (torch.__file__, __file__))


@dataclass(frozen=True, eq=False, slots=True)
class Traced:
    """A forward as a graph.

    Attributes:
        model: a copy of the model in eval mode; parameters and buffers are new objects over the
            memory of the original's.
        graph: its operations, each with its value at the native size under `KNOWN`.
        fake: the mode that those values live in.
    """

    model: nn.Module
    graph: fx.Graph
    fake: FakeTensorMode

    @property
    def image(self) -> fx.Node:
        """The input."""
        node: fx.Node = next(node for node in self.graph.nodes if node.op == "placeholder")
        return node


def trace(model: nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> Traced:
    """Follow the forward of a model on images of one size.

    Args:
        model: stays as it is.
        shape: `[B, C, *spatial]` of images; how many they are does not matter.
        dtype: of an image.

    Raises:
        UntraceableError: naming the place, where the forward decides by what it is given, or does
            something that no graph can hold.
    """
    tracer = _Tracer((IMAGES, *shape[1:]), dtype)
    try:
        # A caller's inference mode would make parameters that no gradient can ever reach.
        with torch.inference_mode(mode=False):
            twin = copied(model)
            graph = tracer.trace(twin)
    except UntraceableError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 - somebody else wrote the forward
        message = " ".join(str(error).split())[:_MAX_MESSAGE]
        text = f"{_place()}{type(error).__name__}: {message}".rstrip(": ")
        raise UntraceableError(f"its forward cannot be followed: {text}") from None
    _check_buffers(twin)
    for node in reversed(graph.nodes):
        if not node.users and (node.op, node.target) == ("call_method", "size"):
            graph.erase_node(node)
    return Traced(twin, graph, tracer.fake)


def _check_buffers(twin: nn.Module) -> None:
    """Refuse a forward that sets a buffer: no graph would go on doing so."""
    buffers: dict[str, object] = dict(twin.named_buffers())
    for name, buffer in buffers.items():
        if isinstance(buffer, fx.Proxy):
            raise UntraceableError(f"its forward puts another tensor in the place of {name}")


class _Shape(tuple[Any, ...]):
    """What `x.shape` gives: as many symbols as there are axes."""

    __slots__ = ()

    def numel(self) -> Any:
        """Return their product, as `torch.Size` does."""
        return prod(self)


class _Sized(fx.Proxy):
    """A stand-in whose rank is known."""

    @property
    def shape(self) -> Any:
        """The sizes, one symbol for each axis."""
        return self.size()

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return self.dim()

    def dim(self) -> int:
        """Return the number of axes."""
        return int(self.node.meta[KNOWN].dim())

    def size(self, dim: int | None = None) -> Any:
        """Return the sizes, or that of one axis."""
        tracer: Any = self.tracer
        if dim is not None and self.node.op == "placeholder" and dim % self.dim() == 1:
            return int(self.node.meta[KNOWN].shape[1])  # no image of any size has other channels
        if dim is not None:
            return tracer.create_proxy("call_method", "size", (self, dim), {})
        return _Shape(self.size(axis) for axis in range(self.dim()))

    def __int__(self) -> int:
        # A plain number of this run would stand for every image, and so would each decision by it.
        text = "its forward makes a plain number of a value or a size: int() or range()"
        raise UntraceableError(f"{_place()}{text}")

    __index__ = __int__

    def __len__(self) -> int:
        # Of a tensor, how many images there are: where IMAGES is in the graph later on, this shows.
        return len(self.node.meta[KNOWN])

    def __getattr__(self, name: str) -> Any:
        # What numpy and copy look for: a stand-in for it would be called, and mean nothing.
        if name.startswith("__"):
            raise AttributeError(name)
        return super().__getattr__(name)


class _Tracer(fx.Tracer):
    """Records a forward, and computes every value on fake tensors as it goes.

    Args:
        shape: of the first parameter of the forward; the others have their defaults.
        dtype: of it.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        super().__init__()
        self._image = shape, dtype
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self._computing = False

    proxy_buffer_attributes = True  # as parameters are: what is computed of them stays in the graph

    def create_args_for_root(self, root_fn: Any, *_: Any, **__: Any) -> Any:
        """Give the forward its first parameter only."""
        first = next(iter(signature(self.root.forward).parameters.values()))
        named = first.kind in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD)
        image = self.create_proxy("placeholder", first.name if named else "image", (), {})
        return root_fn, [self.root, image]

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """Return a stand-in that knows its rank."""
        return _Sized(node, self)

    def create_node(self, kind: str, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        """Record an operation, and compute its value."""
        node = super().create_node(kind, target, *args, **kwargs)
        if kind != "output":
            node.meta[KNOWN] = self._value(node)
        return node

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        """Record a layer of torch as one operation; look into every other module."""
        if self._computing:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Record parameters and buffers that the forward reads itself."""
        if self._computing:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Refuse: the other way is not in the graph, and another image may have to take it."""
        value = obj.node.meta[KNOWN]
        what = "the values" if isinstance(value, Tensor) else "the size"
        raise UntraceableError(f"{_place()}its forward decides by {what} of what it is given")

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        """Go through a tuple that an operation returned."""
        value = obj.node.meta[KNOWN]
        if not isinstance(value, tuple | list):
            raise UntraceableError(f"{_place()}its forward takes a tensor apart in a loop")
        whole: Any = obj
        return iter([whole[place] for place in range(len(value))])

    def _value(self, node: fx.Node) -> Any:
        self._computing = True
        try:
            if node.op == "placeholder":
                return empty(self.root, *self._image, self.fake)
            known = {one: one.meta[KNOWN] for one in node.all_input_nodes}
            return compute(self.root, node, known, self.fake)
        finally:
            self._computing = False


def _place() -> str:
    """Say where in the user's code a forward stands now: the innermost line that is neither's."""
    raised = sys.exc_info()[2]
    frames = traceback.extract_tb(raised) if raised else traceback.extract_stack()
    for frame in reversed(frames):
        if not frame.filename.startswith(_LIBRARIES):
            return f"{Path(frame.filename).name}, line {frame.lineno}: "
    return ""
