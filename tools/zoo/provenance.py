"""Integers that remember which field of a configuration they come from.

An expression is an int (a constant of the code), `{"f": "vision_config.patch_size"}`, a field,
`{"f": "strides", "i": 2}`, an element of a field that is a list (a list of indices where lists are
nested), or `{"op": "//", "a": expression, "b": expression}`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from operator import add, floordiv, mod, mul, sub
from typing import Any, Self

Expression = int | dict[str, Any]

OPERATORS: dict[str, Callable[[int, int], int]] = {
    "+": add, "-": sub, "*": mul, "//": floordiv, "%": mod, "**": pow,
}  # fmt: skip


class Tagged(int):
    """An int with its expression: equal, hashed and printed as the int, so that code sees no more.

    Arithmetic with ints gives tagged ints. What leaves the integers (a true division, `int()`)
    loses the tag: the number then passes for a constant, which is what the probes are for.
    """

    expression: Expression

    def __new__(cls, value: int, expression: Expression) -> Self:
        """Return `value` with the expression that it comes from."""
        made = super().__new__(cls, value)
        made.expression = expression
        return made

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (int(self), self.expression)

    def __add__(self, other: Any) -> Any:
        return combined("+", self, other)

    def __radd__(self, other: Any) -> Any:
        return combined("+", other, self)

    def __sub__(self, other: Any) -> Any:
        return combined("-", self, other)

    def __rsub__(self, other: Any) -> Any:
        return combined("-", other, self)

    def __mul__(self, other: Any) -> Any:
        return combined("*", self, other)

    def __rmul__(self, other: Any) -> Any:
        return combined("*", other, self)

    def __floordiv__(self, other: Any) -> Any:
        return combined("//", self, other)

    def __rfloordiv__(self, other: Any) -> Any:
        return combined("//", other, self)

    def __mod__(self, other: Any) -> Any:
        return combined("%", self, other)

    def __rmod__(self, other: Any) -> Any:
        return combined("%", other, self)

    def __pow__(self, other: Any, modulus: Any = None) -> Any:
        return combined("**", self, other) if modulus is None else pow(int(self), other, modulus)

    def __rpow__(self, other: Any, modulus: Any = None) -> Any:
        return combined("**", other, self) if modulus is None else pow(other, int(self), modulus)

    def __neg__(self) -> Any:
        return combined("-", 0, self)

    def __pos__(self) -> Any:
        return self


def combined(operator: str, left: Any, right: Any) -> Any:
    """Return what the operator makes of two numbers, one of them tagged."""
    if not (_plain_int(left) and _plain_int(right)):
        return NotImplemented
    value: float = OPERATORS[operator](int(left), int(right))
    if not isinstance(value, int):  # 2 ** -1
        return value
    parts = {"op": operator, "a": expression_of(left), "b": expression_of(right)}
    return Tagged(value, parts)


def _plain_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def expression_of(value: int) -> Expression:
    """Return where a number comes from: itself, if from the code."""
    return value.expression if isinstance(value, Tagged) else int(value)


def tagged(value: Any, path: str, index: tuple[int, ...] = ()) -> Any:
    """Return the value of a field with every int in it tagged; lists and tuples are copied."""
    if _plain_int(value):
        return Tagged(int(value), _field(path, index))
    if type(value) in (list, tuple):
        return type(value)(tagged(v, path, (*index, i)) for i, v in enumerate(value))
    if type(value) is dict and not index:
        return {key: tagged(each, f"{path}.{key}") for key, each in value.items()}
    return value


def _field(path: str, index: tuple[int, ...]) -> Expression:
    if not index:
        return {"f": path}
    return {"f": path, "i": index[0] if len(index) == 1 else list(index)}


def fields_of(expression: Any) -> Iterator[str]:
    """Yield the path of each field in an expression, or in anything that holds expressions."""
    if isinstance(expression, dict):
        if "f" in expression:
            yield expression["f"]
        for each in expression.values():
            yield from fields_of(each)
    if isinstance(expression, list):
        for each in expression:
            yield from fields_of(each)


def evaluated(expression: Expression, values: Mapping[str, Any]) -> int:
    """Return what the expression is where the fields have these values.

    Raises:
        LookupError: a field is not there, or its list is shorter.
        TypeError: a field holds no number.
    """
    if isinstance(expression, int):
        return expression
    if "op" in expression:
        left, right = evaluated(expression["a"], values), evaluated(expression["b"], values)
        return OPERATORS[expression["op"]](left, right)
    value = values[expression["f"]]
    index = expression.get("i", [])
    for i in index if isinstance(index, list) else [index]:
        value = value[i]
    if not _plain_int(value):
        raise TypeError(f"{expression['f']} is {value!r}, not a number")
    return int(value)
