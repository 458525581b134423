"""What the user states: `--geometry`, `--input-shape`, `--method`, and a configuration file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from math import prod
from typing import Self, TypeVar

from convsurgeon.errors import ContradictionError, UsageError
from convsurgeon.evidence import Level, Speaker, Statement
from convsurgeon.geometry import LINEAR, Geometry, Refusal, conv_form, times
from convsurgeon.sources.options import GeometryOption, InputShapeOption, parse_method
from convsurgeon.tree import module_of

_MATRIX = 2
_CONV_RANKS = (3, 4, 5)
_Option = TypeVar("_Option", GeometryOption, InputShapeOption)


@dataclass(frozen=True, slots=True)
class UserSpeaker:
    """The user's own statements. Where several options match a module, the last one counts.

    Attributes:
        geometries: one per `--geometry`, those of a configuration file first.
        inputs: one per `--input-shape`, likewise.
        method: axes of the kernel of one position that `--method 1x1` asks for; 0 without it.
        layers: the patterns of `--layer`.
    """

    geometries: tuple[GeometryOption, ...] = ()
    inputs: tuple[InputShapeOption, ...] = ()
    method: int = 0
    layers: tuple[str, ...] = ()

    @classmethod
    def parse(
        cls,
        geometry: Iterable[str] = (),
        input_shape: Iterable[str] = (),
        method: str | None = None,
        layers: Iterable[str] = (),
    ) -> Self:
        """Read the values of the options.

        Args:
            geometry: each `GLOB=k16,s16,p0,d1,g1`.
            input_shape: each `GLOB=512x7x7`.
            method: `kernel`, `1`, `1x1` or `1x1x1`.
            layers: each a GLOB of `--layer`.

        Raises:
            UsageError: CS090 for malformed text.
        """
        return cls(
            tuple(map(GeometryOption.parse, geometry)),
            tuple(map(InputShapeOption.parse, input_shape)),
            parse_method(method) if method is not None else 0,
            tuple(layers),
        )

    def about(self, key: str, shape: tuple[int, ...]) -> Statement | None:
        """Return what the user says about the weight under `key`.

        Without an option for it, `--method 1x1` speaks about the matrices that `--layer` names:
        by itself it does not make a Linear of every matrix (half of them are embeddings).

        Raises:
            UsageError: CS090 where the options cannot be applied to the weight.
            ContradictionError: CS061 where a size has another number of axes than the weight.
        """
        own = self.stated(key, shape)
        if own or not self.method or not _is_matrix(key, shape):
            return own
        module = module_of(key)
        pattern = next((p for p in self.layers if fnmatchcase(module, p)), None)
        if pattern is None:
            return None
        source = f"--layer {pattern!r} --method {self._method_text}"
        return Statement(Level.USER, source, LINEAR, self._one_position)

    def stated(self, key: str, shape: tuple[int, ...]) -> Statement | None:
        """Return what `--geometry` or `--input-shape` says about the weight; see `about`."""
        if key.rpartition(".")[2] != "weight":
            return None
        module = module_of(key)
        geometry = _last(module, self.geometries)
        if len(shape) in _CONV_RANKS:
            return _about_conv(geometry, shape) if geometry else None
        if len(shape) != _MATRIX:
            return None
        inputs = _last(module, self.inputs)
        if geometry and inputs:
            text = f"{geometry.source} and {inputs.source} both speak about the matrix {module!r}"
            raise UsageError("CS090", text, where=module, hint="give one of them")
        if inputs:
            return _about_inputs(inputs, shape)
        return _about_patches(geometry) if geometry else None

    def unused(self, keys: Iterable[str]) -> tuple[str, ...]:
        """Return the options, as typed, whose pattern matches no module of these keys."""
        modules = {module_of(key) for key in keys}
        options: tuple[GeometryOption | InputShapeOption, ...] = (*self.geometries, *self.inputs)
        # A configuration file speaks about other checkpoints of the project too.
        typed = (o for o in options if o.source.startswith("--"))
        return tuple(o.source for o in typed if not any(map(o.matches, modules)))

    @property
    def silence(self) -> str:
        """Why it says nothing about a layer."""
        given = self.geometries or self.inputs
        return "no statement names it" if given else "no --geometry and no --input-shape was given"

    def beside(self, others: Sequence[Speaker]) -> tuple[Speaker, ...]:
        """Return this speaker and the others as `make_plan` should hear them.

        With `--method 1x1` the geometry of a Linear is the user's choice, while that it *is* a
        Linear stays the others' knowledge: their statements about Linears get the kernel of one
        position, and this speaker calls a matrix a Linear only where none of them says anything.
        """
        if not self.method:
            return (self, *others)
        pointwise = [_Pointwise(self, other) for other in others]
        return (_WhereOthersAreSilent(self, tuple(others)), *pointwise)

    @property
    def _method_text(self) -> str:
        return "x".join("1" * self.method)

    @property
    def _one_position(self) -> Geometry:
        ones = (1,) * self.method
        return Geometry.plain(ones, ones)

    def at_one_position(self, statement: Statement) -> Statement:
        """Return a statement about a Linear with the kernel that `--method` asks for."""
        source = f"{statement.source}; --method {self._method_text}"
        return replace(statement, source=source, geometry=self._one_position)


@dataclass(frozen=True, slots=True)
class _Pointwise:
    user: UserSpeaker
    other: Speaker

    def about(self, key: str, shape: tuple[int, ...]) -> Statement | None:
        """Return what the other says, a Linear as a kernel of one position."""
        said = self.other.about(key, shape)
        if said is None or said.refusal or said.form != LINEAR or not _is_matrix(key, shape):
            return said
        return said if self.user.stated(key, shape) else self.user.at_one_position(said)


@dataclass(frozen=True, slots=True)
class _WhereOthersAreSilent:
    user: UserSpeaker
    others: tuple[Speaker, ...]

    def about(self, key: str, shape: tuple[int, ...]) -> Statement | None:
        """Return what the user states; what follows from `--layer` only if nobody knows better."""
        own = self.user.stated(key, shape)
        if own or any(other.about(key, shape) for other in self.others):
            return own
        return self.user.about(key, shape)


def _is_matrix(key: str, shape: tuple[int, ...]) -> bool:
    return len(shape) == _MATRIX and key.rpartition(".")[2] == "weight"


def _last(module: str, options: Sequence[_Option]) -> _Option | None:
    return next((o for o in reversed(options) if o.matches(module)), None)


def _about_conv(option: GeometryOption, shape: tuple[int, ...]) -> Statement:
    axes = len(shape) - 2
    form = conv_form(axes)
    many = next((v for v in option.sizes if len(v) not in (1, axes)), None)
    if many is not None:
        text = f"{option.source} gives {times(many)}, the weight is {list(shape)}"
        raise ContradictionError("CS061", text)
    if option.stride is None:
        return Statement(Level.USER, option.source, form)
    return Statement(Level.USER, option.source, form, option.over(option.kernel or shape[2:], axes))


def _about_patches(option: GeometryOption) -> Statement:
    if option.kernel is None:
        text = f"{option.source} gives no kernel, and a matrix shows none"
        raise UsageError("CS090", text, hint="add it, one size per axis: k16x16")
    if option.stride is None:
        return Statement(Level.USER, option.source, LINEAR)
    axes = len(option.kernel)
    if any(len(v) not in (1, axes) for v in option.sizes):
        text = f"{option.source} does not have one number of axes throughout"
        raise UsageError("CS090", text)
    return Statement(Level.USER, option.source, LINEAR, option.over(option.kernel, axes))


def _about_inputs(option: InputShapeOption, shape: tuple[int, ...]) -> Statement:
    inputs = shape[1]
    channels, *kernel = option.sizes
    if prod(option.sizes) != inputs:
        text = f"{channels} × {times(tuple(kernel))} = {prod(option.sizes)}, not {inputs} inputs"
        return Statement(Level.USER, option.source, LINEAR, refusal=Refusal("CS014", text))
    geometry = Geometry.plain(tuple(kernel), (1,) * len(kernel))
    return Statement(Level.USER, option.source, LINEAR, geometry)
