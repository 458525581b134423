"""The text of the options that state a geometry, read into values."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NoReturn, Self

from convsurgeon.errors import UsageError
from convsurgeon.geometry import Geometry, along_axes, parse_sizes

_MAX_AXES = 3
_FIELDS = {"k": "kernel", "s": "stride", "p": "padding", "d": "dilation", "g": "groups"}
_GEOMETRY_FORM = "'GLOB=k16,s16,p0,d1,g1', k2x14x14 where axes differ"
_INPUT_FORM = "'GLOB=512x7x7': channels, then one to three sizes"
_METHODS = {"kernel": 0, "1": 1, "1x1": 2, "1x1x1": 3}


@dataclass(frozen=True, slots=True)
class GeometryOption:
    """One `--geometry`. Each size has one number, or one per axis.

    Attributes:
        source: the option as typed, or the configuration file with its key.
        pattern: glob of module names.
        kernel: None means the weight's.
        stride: None leaves the layer undecided.
        padding: of every side.
        dilation: distance of the window's positions.
        groups: number of channel groups.
    """

    source: str
    pattern: str
    kernel: tuple[int, ...] | None
    stride: tuple[int, ...] | None
    padding: tuple[int, ...] = (0,)
    dilation: tuple[int, ...] = (1,)
    groups: int = 1

    @classmethod
    def parse(cls, text: str, origin: str = "--geometry") -> Self:
        """Read `GLOB=k16,s16,p0,d1,g1`; one field is enough.

        Args:
            text: what was written.
            origin: where it was written.

        Raises:
            UsageError: CS090 for anything else.
        """
        pattern, equals, value = text.rpartition("=")
        if not equals:
            _malformed(origin, text, "has no '='", _GEOMETRY_FORM)
        fields: dict[str, tuple[int, ...]] = {}
        for part in value.split(","):
            name = _FIELDS.get(part[:1])
            if name is None or name in fields:
                why = f"{part!r} is no new one of k, s, p, d, g with its size"
                _malformed(origin, text, why, _GEOMETRY_FORM)
            fields[name] = _sizes(part, text, origin)
        groups = fields.get("groups", (1,))
        if len(groups) != 1:
            _malformed(origin, text, "groups are one number", _GEOMETRY_FORM)
        return cls(
            _typed(origin, text),
            pattern,
            fields.get("kernel"),
            fields.get("stride"),
            fields.get("padding", (0,)),
            fields.get("dilation", (1,)),
            groups[0],
        )

    @property
    def sizes(self) -> tuple[tuple[int, ...], ...]:
        """Every size that has a number per axis."""
        given = (self.kernel, self.stride, self.padding, self.dilation)
        return tuple(size for size in given if size is not None)

    def matches(self, module: str) -> bool:
        """Tell whether the option is about the module."""
        return fnmatchcase(module, self.pattern)

    def over(self, kernel: tuple[int, ...], axes: int) -> Geometry:
        """Return the geometry over so many axes; single numbers stand for all of them.

        Only for an option with a stride, whose sizes fit the number of axes.
        """
        sizes = (kernel, self.stride or (), self.padding, self.dilation)
        kernel, stride, padding, dilation = (along_axes(size, axes) for size in sizes)
        return Geometry(kernel, stride, padding, dilation, self.groups)


@dataclass(frozen=True, slots=True)
class InputShapeOption:
    """One `--input-shape`: what is flattened in front of a Linear.

    Attributes:
        source: the option as typed, or the configuration file with its key.
        pattern: glob of module names.
        sizes: channels, then one to three spatial sizes.
    """

    source: str
    pattern: str
    sizes: tuple[int, ...]

    @classmethod
    def parse(cls, text: str, origin: str = "--input-shape") -> Self:
        """Read `GLOB=512x7x7`.

        Args:
            text: what was written.
            origin: where it was written.

        Raises:
            UsageError: CS090 for anything else.
        """
        pattern, equals, value = text.rpartition("=")
        if not equals:
            _malformed(origin, text, "has no '='", _INPUT_FORM)
        try:
            sizes = parse_sizes(value)
        except ValueError as error:
            _malformed(origin, text, str(error), _INPUT_FORM)
        if not 1 <= len(sizes) - 1 <= _MAX_AXES or min(sizes) < 1:
            _malformed(origin, text, f"{value!r} is no such shape", _INPUT_FORM)
        return cls(_typed(origin, text), pattern, sizes)

    def matches(self, module: str) -> bool:
        """Tell whether the option is about the module."""
        return fnmatchcase(module, self.pattern)


def parse_method(text: str) -> int:
    """Return the axes of the kernel of one position; 0 for `kernel`.

    Raises:
        UsageError: CS090 for another word.
    """
    if text not in _METHODS:
        allowed = ", ".join(_METHODS)
        raise UsageError("CS090", f"{text!r} is none of {allowed}", where="--method")
    return _METHODS[text]


def _sizes(part: str, text: str, origin: str) -> tuple[int, ...]:
    try:
        sizes = parse_sizes(part[1:])
    except ValueError as error:
        _malformed(origin, text, str(error), _GEOMETRY_FORM)
    low = 0 if part[0] == "p" else 1
    if len(sizes) > _MAX_AXES or min(sizes) < low:
        why = f"{part!r} is out of range: one to three axes, each at least {low}"
        _malformed(origin, text, why, _GEOMETRY_FORM)
    return sizes


def _typed(option: str, text: str) -> str:
    # Always quoted, as in the manual: a glob pasted without quotes is expanded by the shell.
    quoted = text.replace("'", "'\"'\"'")
    return f"{option} '{quoted}'"


def _malformed(option: str, text: str, why: str, form: str) -> NoReturn:
    raise UsageError("CS090", f"{text!r}: {why}", where=option, hint=f"write {form}")
