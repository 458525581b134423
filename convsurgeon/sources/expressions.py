"""Numbers that a library computes from the fields of its config, as data.

An expression is an int, or `{"f": path}` for a field (`vision_config.patch_size`), or
`{"op": "//", "a": ..., "b": ...}`. A field that is a list has `"i"`, one entry for each level of
nesting: a number, or `[place, offset]` where the layer's name gives it by the block number at that
place.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from convsurgeon.errors import RefusedError

_LIMIT = 1 << 31
_OPERATORS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
}


class NoSuchStageError(Exception):
    """The config has fewer stages than the name asks for: it is of another model."""


@dataclass(frozen=True, slots=True)
class Lookup:
    """A config's fields, with the defaults of its class.

    Attributes:
        config: the JSON object.
        defaults: path -> value that the class takes where the config has none.
        where: the config, for errors.
    """

    config: Mapping[str, Any]
    defaults: Mapping[str, Any]
    where: object

    def numbers(self, expressions: list[Any], index: tuple[int, ...], low: int) -> tuple[int, ...]:
        """Return the values of one expression per axis.

        Args:
            expressions: one per axis.
            index: block numbers of the layer's name.
            low: smallest number that makes sense.

        Raises:
            NoSuchStageError: where a list is too short.
            RefusedError: CS063, naming the field of a wrong type or size.
        """
        axes = len(expressions)
        found = tuple(self._value(e, index, n, axes) for n, e in enumerate(expressions))
        if any(not low <= number < _LIMIT for number in found):
            named = ", ".join(dict.fromkeys(f for e in expressions for f in fields(e)))
            self._stop(named, list(found), f"numbers from {low} on")
        return found

    def sizes(self, path: str) -> tuple[int, ...]:
        """Return a field that is a list of sizes.

        Raises:
            RefusedError: CS063, naming it.
        """
        value = self.value(path)
        if not isinstance(value, list) or not value or not all(map(_is_number, value)):
            self._stop(path, value, "a list of positive integers")
        return tuple(value)

    def check(self, path: str) -> None:
        """Look at a whole field, also at those elements that no layer of a file asks for.

        Raises:
            RefusedError: CS063, naming it.
        """
        value = self.value(path)
        if not _is_numeric(value):
            self._stop(path, value, "a positive integer, or a list of them")

    def value(self, path: str) -> Any:
        """Return a field, or its default; a section's old name counts where it says the same.

        Raises:
            RefusedError: CS063 where a section is no object.
        """
        *sections, name = path.split(".")
        at: Mapping[str, Any] = self.config
        for section in sections:
            found = at.get(section)
            if found is None:
                return self.defaults.get(path)
            if not isinstance(found, dict):
                self._stop(section, found, "an object")
            at = found
        return at.get(name, self.defaults.get(path))

    def is_default(self, path: str) -> bool:
        """Tell whether a field is left to its class."""
        at: Any = self.config
        for part in path.split("."):
            if not isinstance(at, dict) or part not in at:
                return True
            at = at[part]
        return False

    def _value(self, expression: Any, index: tuple[int, ...], axis: int, axes: int) -> int:
        if isinstance(expression, int):
            return expression
        if "op" in expression:
            sides = (self._value(expression[s], index, axis, axes) for s in ("a", "b"))
            return self._computed(expression, *sides)
        path = expression["f"]
        value = self.value(path)
        if "i" in expression and not _is_number(value):
            return self._element(path, value, at(expression["i"], index))
        if isinstance(value, list) and len(value) == axes:
            value = value[axis]
        # One number for a list of one per axis is as good; for a list of stages it is not.
        if not _is_number(value) or any(map(_is_place, expression.get("i", ()))):
            self._stop(path, self.value(path), f"a positive integer, or {axes} of them")
        return int(value)

    def _computed(self, expression: Any, one: int, other: int) -> int:
        try:
            return _OPERATORS[expression["op"]](one, other)
        except ZeroDivisionError:
            self._stop(", ".join(fields(expression)), 0, "a divisor")

    def _element(self, path: str, value: Any, numbers: tuple[int, ...]) -> int:
        if not isinstance(value, list) or not value:
            self._stop(path, value, "a list of positive integers")
        for number in numbers:
            if not isinstance(value, list) or not 0 <= number < len(value):
                raise NoSuchStageError(path)
            value = value[number]
        if not _is_number(value):
            self._stop(path, value, "a positive integer")
        return int(value)

    def _stop(self, path: str, value: object, wanted: str) -> NoReturn:
        text = f"the config cannot be read: {path} is {repr(value)[:80]}, not {wanted}"
        raise RefusedError("CS063", text, where=self.where)


def at(numbers: list[Any], index: tuple[int, ...]) -> tuple[int, ...]:
    """Return the numbers of a nested list's element, for a layer with these block numbers."""
    return tuple(index[n[0]] + n[1] if _is_place(n) else n for n in numbers)


def fields(expression: Any) -> Iterator[str]:
    """Return the paths of the fields in an expression, in order."""
    if isinstance(expression, list):
        for part in expression:
            yield from fields(part)
    elif isinstance(expression, dict):
        if "f" in expression:
            yield expression["f"]
        for side in ("a", "b"):
            yield from fields(expression.get(side))


def cite(lookup: Lookup, expressions: list[Any], index: tuple[int, ...]) -> list[str]:
    """Return the fields behind expressions, each with its value, as a report shows them."""
    cited: dict[str, str] = {}
    for leaf in _leaves(expressions):
        path, value = leaf["f"], lookup.value(leaf["f"])
        if any(map(_is_place, leaf.get("i", ()))):
            for number in at(leaf["i"], index):
                value = value[number]
        default = " by default" if lookup.is_default(path) else ""
        cited[path] = f"{path} {value}{default}"
    return list(cited.values())


def _leaves(expression: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(expression, list):
        for part in expression:
            yield from _leaves(part)
    elif isinstance(expression, dict):
        if "f" in expression:
            yield expression
        for side in ("a", "b"):
            yield from _leaves(expression.get(side))


def _is_place(number: object) -> bool:
    return isinstance(number, list)


def _is_numeric(value: object) -> bool:
    if isinstance(value, list):
        return bool(value) and all(map(_is_numeric, value))
    return _is_number(value)


def _is_number(value: object) -> bool:
    # JSON's true is an int to Python.
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LIMIT
