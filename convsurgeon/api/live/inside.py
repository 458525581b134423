"""Which modules and parameters an attribute holds, however deep in what is no module.

A layer that its parent also keeps in a list of lists, or in a function that it calls, is called
from there: another module in its place would stand beside the one that computes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from functools import partial
from types import CellType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

_DEPTH = 5
# Asked as the classes of Python do it, not as a subclass may.
_CONTAINERS: tuple[type[Any], ...] = (list, tuple, set, frozenset, deque)
# Nothing is behind these, and a list may hold a million of them.
_PLAIN = frozenset({str, bytes, int, float, bool, complex, type(None)})
_LEAVES = (str, bytes, bytearray, int, float, complex, type(None), type, ModuleType)


def modules_in(value: object) -> Iterator[nn.Module]:
    """Yield the modules that a value holds: itself, in containers, functions, and plain objects.

    Attributes are read where they are stored, so that no code of theirs runs; what a module holds
    itself is not looked at, nor what a value holds weakly.
    """
    return _inside(value, _DEPTH, set())


def parameters_in(value: Any, depth: int = _DEPTH) -> Iterator[nn.Parameter]:
    """Yield the parameters that a value holds, itself or in containers.

    Not in other objects: optimisers hold every one, and have to be made again after a swap anyway.
    """
    from torch import nn

    if issubclass(type(value), nn.Parameter):
        yield value
    elif depth and issubclass(type(value), (*_CONTAINERS, dict)):
        for part in _parts(value):
            if type(part) not in _PLAIN:
                yield from parameters_in(part, depth - 1)


def _inside(value: Any, depth: int, seen: set[int]) -> Iterator[nn.Module]:
    from torch import Tensor, nn

    kind = type(value)  # not isinstance, which asks the value itself what it is
    if issubclass(kind, nn.Module):
        yield value
    elif depth and not issubclass(kind, (*_LEAVES, Tensor)) and id(value) not in seen:
        seen.add(id(value))
        for part in _parts(value):
            if type(part) not in _PLAIN:
                yield from _inside(part, depth - 1, seen)


def _parts(value: Any) -> tuple[Any, ...]:
    kind = type(value)
    container = next((one for one in _CONTAINERS if issubclass(kind, one)), None)
    if container is not None:
        return tuple(container.__iter__(value))
    if issubclass(kind, dict):
        return tuple(dict.values(value))
    if issubclass(kind, partial):
        return (value.func, *value.args, *value.keywords.values())
    if kind is MethodType:
        return (value.__self__, value.__func__)
    if kind is FunctionType:
        return (*(value.__closure__ or ()), *(value.__defaults__ or ()))
    return _content(value) if kind is CellType else _attributes(value)


def _attributes(value: Any) -> tuple[Any, ...]:
    try:
        found = object.__getattribute__(value, "__dict__")
    except AttributeError:
        return ()
    return tuple(dict.values(found)) if isinstance(found, dict) else ()


def _content(cell: CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # a variable that nothing was put into yet
        return ()
