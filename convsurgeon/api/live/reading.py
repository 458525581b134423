"""Which children's weights the forward of a class reads, found in its bytecode.

A parent that hands `self.fc.weight` to a function of its own, as `nn.MultiheadAttention` and the
fast path of `nn.TransformerEncoderLayer` do, needs it in the shape that it had.
"""

from __future__ import annotations

import dis
import inspect
from itertools import pairwise
from types import CodeType
from typing import Any

_FORWARD = "forward"
_WEIGHT = "weight"
# What a weight of another shape answers as before. `self.fc.weight.dtype` stands in many a forward.
_SHAPELESS = frozenset(
    {"dtype", "device", "is_cuda", "is_floating_point", "is_meta", "layout", "requires_grad"}
)


def weights_read(kind: type) -> frozenset[str]:
    """Return the dotted names of the children of which a class reads `weight`, seen from `self`.

    What is looked at is `forward`, and the methods of the class that it may call.
    """
    from torch import nn

    todo, seen, found = [_FORWARD], set[str](), set[str]()
    while todo:
        name = todo.pop()
        method: Any = getattr(kind, name, None)
        own = callable(method) and method is not getattr(nn.Module, name, None)
        if name in seen or not own:
            continue
        seen.add(name)
        code = getattr(inspect.unwrap(method), "__code__", None)
        paths = list(_paths(code)) if isinstance(code, CodeType) else []
        found.update(".".join(path[:end]) for path in paths for end in _ends(path))
        todo += [part for path in paths for part in path]
    return frozenset(found)


def _ends(path: tuple[str, ...]) -> list[int]:
    """Return where in a chain of attributes a weight itself is asked for."""
    after = pairwise((*path, ""))
    return [i for i, (part, then) in enumerate(after) if part == _WEIGHT and then not in _SHAPELESS]


def _paths(code: CodeType) -> list[tuple[str, ...]]:
    """Return every chain of attributes in a function: `a.b.weight` is ("b", "weight")."""
    chains: list[list[str]] = [[]]
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            chains[-1].append(instruction.argval)
        elif chains[-1]:
            chains.append([])
    return [tuple(chain) for chain in chains if chain]
