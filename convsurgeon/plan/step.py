"""One step of a recipe: a weight that was rewritten, and the name that it has since."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from convsurgeon.evidence import Level, Statement
from convsurgeon.geometry import LINEAR, Geometry, conv_form
from convsurgeon.rearrangement import LAYOUTS, Rearrangement, between
from convsurgeon.tree import CHILD, renamed_layer

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Step:
    """One weight that was rewritten.

    Attributes:
        key: its name before.
        rule: the rule that held.
        layout: order in which the Linear's side is flattened.
        source_form: form before.
        source_shape: shape before.
        target_form: form after.
        target_shape: shape after.
        geometry: of the conv, whichever side it stands on.
        evidence: level and source of the geometry.
        sha256: of the tensor's bytes before the step.
        child: whether the Linear's side is named as the inner layer of a drop-in,
            `proj.linear.weight`, and its bias likewise; otherwise names stay.
    """

    key: str
    rule: str
    layout: str
    source_form: str
    source_shape: tuple[int, ...]
    target_form: str
    target_shape: tuple[int, ...]
    geometry: Geometry
    evidence: tuple[str, str]
    sha256: str
    child: bool = False

    @property
    def module(self) -> str:
        """The key without its last component."""
        return self.key.rpartition(".")[0]

    @property
    def names(self) -> dict[str, str]:
        """The names of weight and bias before and after, whether there is a bias or not.

        Empty where names stay.
        """
        return renamed_layer(self.key, inwards=self.target_form == LINEAR) if self.child else {}

    @property
    def target_key(self) -> str:
        """Its name after."""
        return self.names.get(self.key, self.key)

    @property
    def arrangement(self) -> Rearrangement:
        """How the elements moved."""
        return between(self.source_shape, self.target_shape, self.layout)

    def statement(self) -> Statement:
        """Return the step as evidence about the weight before it; a record proves no inference."""
        level, source = self.evidence
        weak = level == Level.FINGERPRINT.label
        said = (Level.FINGERPRINT, source) if weak else (Level.RECIPE, f"recipe: {level}, {source}")
        return Statement(*said, self.source_form, self.geometry)

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands under `steps`."""
        return {
            "key": self.key,
            "rule": self.rule,
            "layout": self.layout,
            "from": {"form": self.source_form, "shape": list(self.source_shape)},
            "to": {"form": self.target_form, "shape": list(self.target_shape)},
            "geometry": self.geometry.to_json(),
            "evidence": {"level": self.evidence[0], "source": self.evidence[1]},
            "sha256": self.sha256,
            **({"child": CHILD} if self.child else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError, KeyError, TypeError: where it is not such an object.
        """
        before, after = checked(data["from"], dict), checked(data["to"], dict)
        said = checked(data["evidence"], dict)
        step = cls(
            key=checked(data["key"], str),
            rule=checked(data["rule"], str),
            layout=checked(data["layout"], str),
            source_form=checked(before["form"], str),
            source_shape=tuple(checked(d, int) for d in checked(before["shape"], list)),
            target_form=checked(after["form"], str),
            target_shape=tuple(checked(d, int) for d in checked(after["shape"], list)),
            geometry=Geometry.from_json(checked(data["geometry"], dict)),
            evidence=(checked(said["level"], str), checked(said["source"], str)),
            sha256=digest(data["sha256"]),
            child="child" in data,
        )
        if data.get("child", CHILD) != CHILD:
            raise ValueError(f"step for {step.key!r} names another child than {CHILD!r}")
        step._check()
        return step

    def _check(self) -> None:
        conv = max(self.source_shape, self.target_shape, key=len)
        if (self.source_form, self.target_form) != (
            _form(self.source_shape),
            _form(self.target_shape),
        ):
            raise ValueError(f"step for {self.key!r} names other forms than its shapes have")
        if self.layout not in LAYOUTS or conv[2:] != self.geometry.kernel or min(conv) < 1:
            raise ValueError(f"step for {self.key!r} does not fit together")
        if self.target_form == LINEAR and self.geometry.stride != self.geometry.kernel:
            raise ValueError(f"step for {self.key!r} makes a Linear of windows that are no patches")
        _ = self.arrangement  # raises where the shapes do not hold the same elements
        _ = self.names  # raises where the key is no weight, or has no child to lose


def chains(steps: Iterable[Step]) -> dict[str, tuple[Step, ...]]:
    """Return the steps of each weight in their order, by the name that it has after the last."""
    found: dict[str, list[Step]] = {}  # tuples that grow would be quadratic work
    for step in steps:
        chain = found.pop(step.key, [])
        chain.append(step)
        found[step.target_key] = chain
    return {now: tuple(chain) for now, chain in found.items()}


def first_names(steps: Iterable[Step]) -> dict[str, str]:
    """Return what weights and biases were called before the first step, by their present names.

    Names that stayed are left out. A bias is listed whether there is one or not.
    """
    found: dict[str, str] = {}
    for step in steps:
        for before, after in step.names.items():
            found[after] = found.pop(before, before)
    return {now: first for now, first in found.items() if now != first}


def check_chains(steps: Iterable[Step]) -> None:
    """Check that every step begins with what the one before it left.

    Raises:
        ValueError: where it does not, or two weights get one name.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    left: set[str] = set()
    for step in steps:
        if step.key in left or shapes.pop(step.key, step.source_shape) != step.source_shape:
            raise ValueError(f"a step for {step.key!r} does not begin where the last one ended")
        if step.names:
            left.add(step.key)
            left.discard(step.target_key)
        if step.target_key in shapes:
            raise ValueError(f"two weights get the name {step.target_key!r}")
        shapes[step.target_key] = step.target_shape


def checked(value: object, kind: type[_T]) -> _T:
    """Return a value of a recipe if it is of a kind.

    Raises:
        TypeError: if it is not.
        UnicodeEncodeError: for half a surrogate pair, which could never be written again.
    """
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"{kind.__name__} expected")
    if isinstance(value, str):
        value.encode("utf-8")
    return value


def digest(value: object) -> str:
    """Return a SHA-256 digest in lower-case hexadecimal, if it is one.

    Raises:
        TypeError, ValueError: if it is not.
    """
    text = checked(value, str)
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise ValueError("a SHA-256 digest is expected")
    return text


def _form(shape: tuple[int, ...]) -> str:
    return LINEAR if len(shape) == 2 else conv_form(len(shape) - 2)
