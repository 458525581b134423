"""Which children's weights the forward of a class reads, found in its bytecode.

A parent that hands `self.fc.weight` to a function of its own, as `nn.MultiheadAttention` and the
fast path of `nn.TransformerEncoderLayer` do, needs it in the shape that it had.
"""

from __future__ import annotations

import dis
import inspect
from collections.abc import Iterator
from itertools import pairwise
from types import CodeType
from typing import Any, NamedTuple

_FORWARD = "forward"
_WEIGHT = "weight"
# What a weight of another shape answers as before. `self.fc.weight.dtype` stands in many a forward.
_SHAPELESS = frozenset(
    {"dtype", "device", "is_cuda", "is_floating_point", "is_meta", "layout", "requires_grad"}
)


UNNAMED = "*"
"""Stands for a child that a forward does not name: one of a list, or behind a variable."""


def weights_read(kind: type) -> frozenset[str]:
    """Return the dotted names of the children of which a class reads `weight`, seen from `self`.

    What is looked at is `forward`, and the methods of the class that it may call. The first name of
    each may be `UNNAMED`.
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
        chains = list(_chains(code)) if isinstance(code, CodeType) else []
        for chain in chains:
            found.update(chain.path_to(end) for end in _ends(chain.names))
        todo += [part for chain in chains for part in chain.names]
    return frozenset(found)


class _Chain(NamedTuple):
    """Attributes of attributes: `a.b.weight` is ("b", "weight").

    Attributes:
        of_self: whether what they begin with is the function's first argument.
        names: of the attributes.
    """

    of_self: bool
    names: tuple[str, ...]

    def path_to(self, end: int) -> str:
        """Return the dotted name of what has the attribute at a place."""
        return ".".join((*(() if self.of_self else (UNNAMED,)), *self.names[:end]))


def _ends(path: tuple[str, ...]) -> list[int]:
    """Return where in a chain of attributes a weight itself is asked for."""
    after = pairwise((*path, ""))
    return [i for i, (part, then) in enumerate(after) if part == _WEIGHT and then not in _SHAPELESS]


def _chains(code: CodeType, first: str = "") -> Iterator[_Chain]:
    """Yield every chain in a function, and in those within it."""
    first = first or next(iter(code.co_varnames), "")
    before: object = None
    of_self, names = False, list[str]()
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            of_self = of_self if names else before == first
            names.append(instruction.argval)
            continue
        if names:
            yield _Chain(of_self, tuple(names))
            names = []
        loaded = instruction.opname.startswith(("LOAD_FAST", "LOAD_DEREF"))
        last = instruction.argval[-1:] if isinstance(instruction.argval, tuple) else ()
        before = (last or (instruction.argval,))[0] if loaded else None
        if (instruction.opname, instruction.argval) == ("LOAD_CONST", _WEIGHT):
            yield _Chain(of_self=False, names=(_WEIGHT,))  # of getattr, or of a table
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _chains(inner, first)
