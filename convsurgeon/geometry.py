"""What a layer is and how its windows lie: pure values."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Self

LINEAR = "linear"


def conv_form(ndim: int) -> str:
    """Return the form of a convolution over `ndim` spatial axes, e.g. `conv2d`."""
    return f"conv{ndim}d"


def is_conv(form: str) -> bool:
    """Tell whether the form is a convolution that is not transposed."""
    return re.fullmatch(r"conv[123]d", form) is not None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a layer is left alone.

    Attributes:
        code: a stable code, see `codes`.
        reason: one clause with the layer's own figures.
    """

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a convolution's windows lie over its input, one value per spatial axis.

    Channels are not in it: without groups the weight's shape has them.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1

    def __post_init__(self) -> None:
        """Check that every axis has every value.

        Raises:
            ValueError: naming the field.
        """
        for name, low in (("kernel", 1), ("stride", 1), ("padding", 0), ("dilation", 1)):
            values = getattr(self, name)
            if len(values) != self.ndim or any(v < low for v in values):
                raise ValueError(f"{name} {list(values)} does not fit kernel {list(self.kernel)}")
        if not 1 <= self.ndim <= 3 or self.groups < 1:
            raise ValueError(f"no geometry has kernel {list(self.kernel)}, groups {self.groups}")

    @classmethod
    def plain(cls, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Self:
        """Build a geometry without padding, dilation or groups."""
        n = len(kernel)
        return cls(kernel, stride, (0,) * n, (1,) * n, 1)

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.kernel)

    @property
    def window(self) -> int:
        """Number of positions in a window."""
        return prod(self.kernel)

    def effective(self) -> Geometry:
        """Return it with dilation 1 where the kernel is 1, where dilation means nothing."""
        if all(d == 1 for d in self.dilation):
            return self  # nearly every layer: a copy of each would be a tenth of a scan
        pairs = zip(self.kernel, self.dilation, strict=True)
        return replace(self, dilation=tuple(1 if k == 1 else d for k, d in pairs))

    def to_json(self) -> dict[str, Any]:
        """Return it as the JSON object of the reports."""
        return {
            "kernel": list(self.kernel),
            "stride": list(self.stride),
            "padding": list(self.padding),
            "dilation": list(self.dilation),
            "groups": self.groups,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: where it is not such an object.
        """
        try:
            axes = {name: _ints(data[name]) for name in ("kernel", "stride", "padding", "dilation")}
            return cls(**axes, groups=_int(data["groups"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"no geometry: {error}") from None


def times(values: tuple[int, ...]) -> str:
    """Write sizes as people do: `16×16`."""
    return "×".join(map(str, values))


def along_axes(value: Any, axes: int) -> tuple[Any, ...]:
    """Return a size along each axis; as in torch, a single number stands for all of them."""
    sizes = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    return sizes * axes if len(sizes) == 1 else sizes


def parse_sizes(text: str) -> tuple[int, ...]:
    """Read `16` or `2x14x14`.

    Raises:
        ValueError: for anything else.
    """
    if not re.fullmatch(r"[0-9]{1,9}(x[0-9]{1,9})*", text, flags=re.ASCII):
        raise ValueError(f"{text!r} is no size like 16 or 2x14x14")
    return tuple(map(int, text.split("x")))


def _int(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no integer")
    return value


def _ints(values: object) -> tuple[int, ...]:
    if not isinstance(values, list):
        raise TypeError(f"{values!r} is no list")
    return tuple(_int(value) for value in values)
