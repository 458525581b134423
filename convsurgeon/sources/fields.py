"""The values of a fact, read from a config's fields and checked strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NoReturn

from convsurgeon.errors import RefusedError
from convsurgeon.sources.rows import Fact, Field, Half, Spatial, Staged, Switch, Value


@dataclass(frozen=True, slots=True)
class Fields:
    """An object of a config, and how to name its fields.

    Attributes:
        data: the object.
        prefix: of its field names, e.g. `vision_config.`.
        where: the config, for errors.
    """

    data: Mapping[str, Any]
    prefix: str
    where: object

    def along(self, value: Value, axes: int, stage: int) -> tuple[int, ...] | None:
        """Return one number per axis; None where the config has no such stage.

        Raises:
            RefusedError: CS063, naming the field that is missing or of a wrong type.
        """
        match value:
            case int():
                return (value,) * axes
            case tuple():
                return tuple(self._one(one) for one in value)
            case Field():
                return self._per_axis(value, axes)
            case Spatial():
                return self._ints(value.name, self._get(value.name, None))[1:]
            case Half():
                whole = self.along(value.of, axes, stage)
                return whole and tuple(size // 2 for size in whole)
            case Staged():
                return self._of_stage(value, axes, stage)

    def inputs(self, value: Spatial) -> int:
        """Return the number of inputs of the Linear behind such an input.

        Raises:
            RefusedError: CS063, naming the field.
        """
        return prod(self._ints(value.name, self._get(value.name, None)))

    def holds(self, switch: Switch | None) -> bool:
        """Tell whether a fact's switch is where it has to be.

        Raises:
            RefusedError: CS063 where the field is neither true nor false.
        """
        if switch is None:
            return True
        value = self.data.get(switch.name, switch.default)
        if not isinstance(value, bool):
            self._stop(switch.name, value, "true or false")
        return value is switch.wanted

    def check(self, fact: Fact) -> None:
        """Check every field that a fact reads, whatever its layers are.

        Raises:
            RefusedError: CS063, naming the field.
        """
        self.holds(fact.switch)
        for value in (fact.kernel, fact.stride, fact.padding):
            if value is not None:
                self.along(value, axes_of(fact.form), 0)

    def cite(self, fact: Fact, stage: int) -> list[str]:
        """Return the fields behind a fact, each with its value, as a report shows them."""
        cited: dict[str, str] = {}
        for value in (fact.kernel, fact.stride, fact.padding):
            for field in _leaves(value):
                found = self._get(field.name, getattr(field, "default", None))
                if isinstance(field, Staged):
                    found = found[stage]
                shown = list(found) if isinstance(found, tuple) else found
                default = "" if field.name in self.data else " by default"
                cited[field.name] = f"{self.prefix}{field.name} {shown}{default}"
        if fact.switch:
            name = fact.switch.name
            cited[name] = f"{self.prefix}{name} {str(fact.switch.wanted).lower()}"
        return list(cited.values())

    def _get(self, name: str, default: object) -> Any:
        if name not in self.data and default is None:
            text = f"the config cannot be read: it has no field {self.prefix}{name}"
            raise RefusedError("CS063", text, where=self.where)
        return self.data.get(name, default)

    def _one(self, field: Field) -> int:
        value = self._get(field.name, field.default)
        if not _is_size(value):
            self._stop(field.name, value, "a positive integer")
        return int(value)

    def _per_axis(self, field: Field, axes: int) -> tuple[int, ...]:
        value = self._get(field.name, field.default)
        if _is_size(value):
            return (value,) * axes
        sizes = self._ints(field.name, value)
        if len(sizes) != axes:
            self._stop(field.name, value, f"one integer, or {axes} of them")
        return sizes

    def _of_stage(self, value: Staged, axes: int, stage: int) -> tuple[int, ...] | None:
        sizes = self._ints(value.name, self._get(value.name, value.default))
        if stage >= len(sizes):
            return None
        return (sizes[stage],) * axes

    def _ints(self, name: str, value: Any) -> tuple[int, ...]:
        if not isinstance(value, (list, tuple)) or not value or not all(map(_is_size, value)):
            self._stop(name, value, "a list of positive integers")
        return tuple(value)

    def _stop(self, name: str, value: object, wanted: str) -> NoReturn:
        shown = repr(value)[:80]
        text = f"the config cannot be read: {self.prefix}{name} is {shown}, not {wanted}"
        raise RefusedError("CS063", text, where=self.where)


def axes_of(form: str) -> int:
    """Return the number of spatial axes of a form; 2 for a Linear behind an image."""
    return int(form[-2]) if form.startswith("conv") else 2


def _is_size(value: object) -> bool:
    # JSON's true is an int to Python.
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 1 << 31


def _leaves(value: Value | None) -> tuple[Field | Staged | Spatial, ...]:
    match value:
        case Field() | Staged() | Spatial():
            return (value,)
        case Half():
            return (value.of,)
        case tuple():
            return value
        case _:
            return ()
