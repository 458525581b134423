"""A plan carried out: a forward with convolutions for Linears, over the same memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import fx, nn

from convsurgeon.dense.calls import shape_of
from convsurgeon.dense.trace import Traced
from convsurgeon.dense.values import KNOWN
from convsurgeon.nn import FlatConv1d, FlatConv2d, FlatConv3d
from convsurgeon.plan.dense import AXIS, CONV, DROP, NORM, DensePlan, HeadStep

_FLAT = (FlatConv1d, FlatConv2d, FlatConv3d)
_TABLES = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class Network(fx.GraphModule):
    """A graph with all modules of the model that it was made of, also those that it does not call.

    torch's own copy of a graph keeps what is called only, and its state dict would lose keys.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> Network:
        """Copy it whole."""
        made = cast("Network", super().__deepcopy__(memo))
        made.adopt(copy.deepcopy({name: vars(self)[name] for name in _TABLES}, memo))
        return made

    def adopt(self, tables: Mapping[str, Any]) -> None:
        """Take over the tables of a module, in their order."""
        vars(self).update({name: copy.copy(table) for name, table in tables.items()})


def build(traced: Traced, plan: DensePlan, model: nn.Module) -> Network:
    """Build the network that a plan speaks of.

    Its modules have the names that they have in the model, so that its state dict has the same
    keys; parameters and buffers lie in the same memory.

    Args:
        traced: the forward; it is used up.
        plan: of it, without obstacles.
        model: the original, whose modules say whether they are trained.
    """
    nodes = {node.name: node for node in traced.graph.nodes}
    # A caller's inference mode would make parameters that no gradient can ever reach.
    with torch.inference_mode(mode=False), torch.no_grad():
        for step in plan.steps:
            _ACTIONS.get(step.action, _keep)(traced, nodes[step.node], step)
    now = dict(traced.model.named_modules(remove_duplicate=False))
    for name, module in model.named_modules(remove_duplicate=False):
        now[name].training = module.training
    made = Network(traced.model, _cleaned(traced.graph), f"FullyConvolutional{plan.model}")
    made.graph.eliminate_dead_code()
    made.recompile()
    own = dict(traced.model.named_buffers())
    constants = {name: one for name, one in made.named_buffers() if name not in own}
    made.adopt({name: vars(traced.model)[name] for name in _TABLES})
    for name, tensor in constants.items():  # numbers in the code of the forward
        made.register_buffer(name, tensor, persistent=False)
    made.training = traced.model.training
    return made


def _cleaned(graph: fx.Graph) -> fx.Graph:
    """Return a graph without the values and the tracer that it was made with: it can be pickled."""
    plain = fx.Graph()
    plain.output(plain.graph_copy(graph, {}))
    for node in plain.nodes:
        node.meta.pop(KNOWN, None)
    return plain


def _drop(_: Traced, node: fx.Node, __: HeadStep) -> None:
    source = cast("fx.Node", node.args[0] if node.args else node.kwargs["input"])
    node.replace_all_uses_with(source)
    node.graph.erase_node(node)


def _conv(traced: Traced, node: fx.Node, step: HeadStep) -> None:
    _, channels, *kernel = step.weight_shape
    old = traced.model.get_submodule(str(node.target))
    new = _FLAT[len(kernel) - 1].from_linear(old, channels, tuple(kernel), input="map")
    _put(traced.model, old, new)


def _norm(traced: Traced, node: fx.Node, _: HeadStep) -> None:
    old = cast("nn.BatchNorm1d", traced.model.get_submodule(str(node.target)))
    kind = _NORMS[len(shape_of(traced.image)) - 3]
    new = kind(
        old.num_features, old.eps, old.momentum, old.affine, old.track_running_stats, device="meta"
    )
    for table in ("_parameters", "_buffers"):
        vars(new)[table] = vars(old)[table]
    _put(traced.model, old, new)


def _axis(traced: Traced, node: fx.Node, _: HeadStep) -> None:
    """Let a softmax, or what puts features side by side, go along the channels."""
    if node.op == "call_module":
        # The module stays as it is: it may be called elsewhere, along another axis.
        softer = isinstance(traced.model.get_submodule(str(node.target)), nn.Softmax)
        node.op, node.target = "call_function", torch.softmax if softer else torch.log_softmax
    node.kwargs = {**node.kwargs, "dim": 1}
    node.args = node.args[:1]


def _keep(_: Traced, __: fx.Node, ___: HeadStep) -> None:
    """Leave an operation as it is."""


def _put(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put a module in another's place, under each of its names."""
    for parent in model.modules():
        for name, child in parent._modules.items():  # noqa: SLF001 (`named_children` hides a second name)
            if child is old:
                parent._modules[name] = new  # noqa: SLF001


_ACTIONS: Mapping[str, Callable[[Traced, fx.Node, HeadStep], None]] = {
    DROP: _drop,
    CONV: _conv,
    NORM: _norm,
    AXIS: _axis,
}
