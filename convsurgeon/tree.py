"""The module tree, read from the names of a state dict."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Node:
    """A module: its own name, its path from the root, its children.

    Attributes:
        name: last component; empty for the root.
        path: all components, joined with dots.
        children: by name, in natural order.
    """

    name: str
    path: str
    children: dict[str, Node] = field(default_factory=dict)

    def walk(self) -> Iterable[Node]:
        """Yield this node and all below it, parents first."""
        yield self
        for child in self.children.values():
            yield from child.walk()


def compact(node: Node, kept: Container[str]) -> Node:
    """Return the tree with every chain of only children as one node: `vit.embeddings.proj`.

    Args:
        node: its root.
        kept: paths that end a chain, since something is said about them.
    """
    children: dict[str, Node] = {}
    for child in node.children.values():
        name, end = child.name, child
        while len(end.children) == 1 and end.path not in kept:
            (end,) = end.children.values()
            name = f"{name}.{end.name}"
        children[name] = compact(Node(name, end.path, end.children), kept)
    return Node(node.name, node.path, children)


def module_of(key: str) -> str:
    """Return the module that a key belongs to: the key without its last component."""
    return key.rpartition(".")[0]


CHILD = "linear"
"""What a `PatchLinear` calls its inner layer."""


def renamed_layer(key: str, *, inwards: bool) -> dict[str, str]:
    """Return the names of a layer's weight and bias, and those in or out of an inner layer.

    Args:
        key: `proj.weight`; or `proj.linear.weight`, where it is to get out.
        inwards: whether the names get the inner layer's name, or lose it.

    Raises:
        ValueError: where the key is no weight, or has no inner layer's name to lose.
    """
    module, dot, last = key.rpartition(".")
    if last != "weight":
        raise ValueError(f"{key!r} is no weight of a layer")
    if inwards:
        new = f"{module}{dot}{CHILD}."
    else:
        outside, dot_before, child = module.rpartition(".")
        if child != CHILD:
            raise ValueError(f"{key!r} is not in an inner layer named {CHILD!r}")
        new = f"{outside}{dot_before}"
    return {f"{module}{dot}{name}": f"{new}{name}" for name in ("weight", "bias")}


def natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key by which `blocks.2` stands before `blocks.10`.

    A number is compared by its length, then its digits: a file may hold names with more digits
    than Python converts. Names longer than any real one are compared as they stand.
    """
    parts = re.split(r"([0-9]+)", name) if len(name) <= _MAX_NATURAL else [name]
    return [_part(part) for part in parts if part]


_MAX_NATURAL = 4096


def _part(part: str) -> tuple[int, int, str]:
    if not (part.isascii() and part.isdigit()):
        return 0, 0, part
    digits = part.lstrip("0")
    return 1, len(digits), digits


def grow(modules: Iterable[str]) -> Node:
    """Build the tree that holds these modules, and nothing beside them.

    A path deeper than any real model's is one node, so that a name of a million dots cannot exhaust
    the stack, and every node can be shown within 80 columns.
    """
    root = Node("", "")
    for module in sorted(set(modules), key=natural):
        node = root
        for part in _components(module):
            path = f"{node.path}.{part}" if node is not root else part
            node = node.children.setdefault(part, Node(part, path))
    return root


_MAX_DEPTH = 12


def _components(module: str) -> list[str]:
    if not module:
        return []
    parts = module.split(".")
    return parts if len(parts) <= _MAX_DEPTH else [module]
