"""The operations of an exported program -> what each of its weights is for."""

from __future__ import annotations

import re

from convsurgeon.geometry import LINEAR, Geometry, Refusal, along_axes, conv_form
from convsurgeon.sources.builders.graph import Graph, Node
from convsurgeon.sources.layers import Found

_CONV = re.compile(r"torch\.ops\.aten\.conv(_transpose)?([123])d\.(default|input|padding)")
_GENERAL = "torch.ops.aten.convolution.default"
_LINEAR = "torch.ops.aten.linear.default"
_EXACT = re.compile(
    r"torch\.nn\.modules\.(conv\.Conv(Transpose)?[123]d|linear\.(NonDynamicallyQuantizable)?Linear)"
)
_SUFFIX = ".weight"
_MATRIX = 2
_CONV_RANKS = (3, 4, 5)


def layers_of(graph: Graph) -> dict[str, Found]:
    """Return every layer of a program by the name of its module."""
    inside: dict[str, int] = {}
    for node in graph.nodes:
        inside[node.path] = inside.get(node.path, 0) + 1
    found = {}
    for name in graph.names:
        layer = _layer(graph, name, inside) if f".{name}".endswith(_SUFFIX) else None
        if layer:
            found[name.removesuffix("weight").removesuffix(".")] = layer
    return found


def _layer(graph: Graph, name: str, inside: dict[str, int]) -> Found | None:
    shape = graph.shapes[name]
    users = list(graph.users(name))
    if shape is None or not users:
        return None
    used = [_use(node, shape) if role == "weight" else None for node, role in users]
    known = [one for one in used if one]
    if not known:
        return _stranger(users[0][0], shape)
    first = known[0]
    if len(known) < len(used) or any(one != first for one in known):
        text = "the program uses this tensor in operations that differ"
        return Found(first.form, shape, refusal=Refusal("CS016", text))
    if first.refusal:
        return first
    for path in {node.path for node, _ in users}:
        of_it = [node for node, _ in users if node.path == path]
        text = _doubt(of_it, inside[path])
        if text:
            return Found(first.form, shape, refusal=Refusal("CS007", text))
    return first


def _doubt(nodes: list[Node], inside: int) -> str:
    """Say why the module around an operation may do more than it; empty where it does not."""
    kind = nodes[0].kind
    if not _EXACT.fullmatch(kind):
        return f"it belongs to a module of class {kind.rpartition('.')[2] or 'unknown'}"
    # Padding in another mode, a hook or a forward of its own leave operations of their own.
    return "its module does more than this one operation" if inside > len(nodes) else ""


def _stranger(node: Node, shape: tuple[int, ...]) -> Found | None:
    if len(shape) not in _CONV_RANKS:
        return None
    text = f"the program uses this tensor in {node.target}, not in a convolution"
    return Found(conv_form(len(shape) - 2), shape, refusal=Refusal("CS007", text))


def _use(node: Node, shape: tuple[int, ...]) -> Found | None:
    """Return what an operation makes of its weight; None for no conv and no linear."""
    if node.target == _LINEAR:
        return Found(LINEAR, shape) if len(shape) == _MATRIX else None
    match = _CONV.fullmatch(node.target)
    if not match and node.target != _GENERAL:
        return None
    axes = len(shape) - 2
    transposed = bool(match[1]) if match else bool(node.value("transposed"))
    form = f"conv_transpose{axes}d" if transposed else conv_form(axes)
    kernel = shape[2:]
    try:
        padding = node.value("padding", 0)
        if padding == "valid" or (padding == "same" and set(kernel) == {1}):
            padding = 0
        if padding == "same":
            return Found(form, shape, refusal=Refusal("CS013", "padding 'same'"))
        stride, dilation = node.value("stride", 1), node.value("dilation", 1)
        geometry = Geometry(
            kernel,
            along_axes(stride, axes),
            along_axes(padding, axes),
            along_axes(dilation, axes),
            node.value("groups", 1),
        )
    except ValueError as error:
        text = f"its geometry is no set of plain numbers: {error}"
        return Found(form, shape, refusal=Refusal("CS007", text))
    return Found(form, shape, geometry)
