"""Values without memory: what an operation of a graph gives, on fake tensors."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.parameter import is_lazy

KNOWN = "known"
"""Under this name the meta data of a node holds its value at the native size."""


class UntraceableError(Exception):
    """A forward that cannot be followed."""


def copied(model: nn.Module) -> nn.Module:
    """Copy the modules; parameters and buffers become new objects over the same memory."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    lazy = next((name for name, one in tensors if is_lazy(one)), None)
    if lazy is not None:
        raise UntraceableError(f"{lazy} has no shape yet: run the model once")
    memo: dict[int, Any] = {}
    for name, one in tensors:
        if type(one) not in (nn.Parameter, Tensor, nn.Buffer):
            raise UntraceableError(f"{name} is a {type(one).__name__}, no plain tensor")
        if one.is_inference():
            raise UntraceableError(f"{name} was made under torch.inference_mode")
        view = one.detach()
        own = nn.Parameter(view, one.requires_grad) if isinstance(one, nn.Parameter) else view
        memo[id(one)] = own
    try:
        return copy.deepcopy(model, memo).eval()
    except Exception as error:  # noqa: BLE001 - whatever a model holds beside tensors
        raise UntraceableError(f"the model cannot be copied: {error}") from None


def empty(
    root: nn.Module, shape: tuple[int, ...], dtype: torch.dtype, fake: FakeTensorMode
) -> Tensor:
    """Return images without values, where the model's parameters are."""
    device = next((one.device for one in root.parameters()), torch.device("cpu"))
    with fake:
        return torch.empty(shape, dtype=dtype, device=device)


def compute(
    root: nn.Module, node: fx.Node, known: Mapping[fx.Node, Any], fake: FakeTensorMode
) -> Any:
    """Return the value of an operation on fake tensors.

    Args:
        root: what the targets of the graph are names in.
        node: the operation.
        known: the values of all its inputs.
        fake: their mode.
    """
    if node.op == "get_attr":
        found: Any = root
        for name in str(node.target).split("."):
            found = getattr(found, name)
        return found
    args = fx.node.map_arg(node.args, known.__getitem__)
    kwargs = fx.node.map_arg(node.kwargs, known.__getitem__)
    with fake, torch.no_grad():
        if node.op == "call_module":
            return root.get_submodule(str(node.target))(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        function: Any = node.target
        return function(*args, **kwargs)
