"""Layers of every form, dtype and layout, by number, with the files before and after a true swap.

What a swap has to give is worked out here by numpy alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import prod
from random import Random
from typing import NamedTuple

import numpy as np

from mutation.content import Content, Shape, Tensor
from mutation.floats import FORMATS, Codes, codes, normal, unusual

LAYOUTS = ("c p1 p2", "p1 p2 c")
RULES = ("patchify", "pointwise", "unpatchify", "full-kernel", "1x1")
WAYS = tuple(product(RULES, (1, 2, 3)))
"""Each rule with each number of axes."""
CYCLE = len(WAYS) * len(FORMATS)
"""In so many cases each rule and number of axes meets each dtype; in twice as many, each layout."""


class Room(NamedTuple):
    """How large a layer may be.

    Attributes:
        elements: of a weight.
        kernel: along one axis.
        channels: in or out.
    """

    elements: int
    kernel: int
    channels: int


SMALL = Room(300, 4, 6)
"""For layers to be damaged: a small one serves as well as a large one."""
ROOMY = Room(4000, 9, 16)
"""For layers that are swapped only."""


@dataclass(frozen=True)
class Case:
    """One file with one or two layers of one shape.

    Attributes:
        number: which one; everything else follows from it and the seed.
        seed: of all that is random.
        rule: how the layer is rewritten.
        conv: shape of the conv's weight, on whichever side it stands.
        layout: in which the Linear's side is flattened.
        dtype: of weight and bias.
        modules: names of the layers.
        bias: whether they have one.
        plain: whether all numbers are ordinary ones.
    """

    number: int
    seed: int
    rule: str
    conv: Shape
    layout: str
    dtype: str
    modules: tuple[str, ...]
    bias: bool
    plain: bool

    @property
    def to(self) -> str:
        """The form that the layers are rewritten to."""
        return "linear" if self.rule in {"patchify", "pointwise"} else "conv"

    @property
    def form(self) -> str:
        """From which form to which."""
        conv = f"conv{len(self.conv) - 2}d"
        return f"{conv} to linear" if self.to == "linear" else f"linear to {conv}"

    @property
    def weights(self) -> tuple[str, ...]:
        """Names of the rewritten weights."""
        return tuple(f"{module}.weight" for module in self.modules)

    @property
    def biases(self) -> tuple[str, ...]:
        """Names of their biases."""
        return tuple(f"{module}.bias" for module in self.modules if self.bias)

    @property
    def linear(self) -> Shape:
        """Shape of the linear weight."""
        return self.conv[0], prod(self.conv[1:])

    def random(self, *purpose: object) -> Random:
        """Return a source of random numbers for one purpose."""
        return Random(f"{self.seed} {self.number} {purpose}")  # noqa: S311


def case(number: int, seed: int, room: Room = SMALL) -> Case:
    """Return one case."""
    rule, axes = WAYS[number % len(WAYS)]
    dtype = list(FORMATS)[number % len(FORMATS)]  # 15 ways, 8 dtypes: no common factor
    turn = number % CYCLE // len(FORMATS) + number // CYCLE
    draw = Random(f"{seed} {number}")  # noqa: S311
    return Case(
        number=number,
        seed=seed,
        rule=rule,
        conv=_shape(rule, axes, room, draw),
        layout=LAYOUTS[turn % len(LAYOUTS)],
        dtype=dtype,
        modules=("proj", "also") if draw.random() < 0.25 else ("proj",),
        bias=draw.random() < 0.75,
        plain=draw.random() < 0.6,
    )


def _shape(rule: str, axes: int, room: Room, draw: Random) -> Shape:
    """Return `[O, C, *kernel]`; equal sizes are common, since they hide what is exchanged."""
    size = draw.choice((2, 2, 3))
    single = rule in {"pointwise", "1x1"}
    while True:
        kernel = [1 if single else _size(room.kernel, size, draw) for _ in range(axes)]
        channels = _size(room.channels, size, draw)
        out = draw.choice((channels * prod(kernel), _size(room.channels, size, draw)))
        small = out * channels * prod(kernel) <= room.elements
        if small and (single or max(kernel) > 1):
            return (out, channels, *kernel)


def _size(largest: int, usual: int, draw: Random) -> int:
    return usual if draw.random() < 0.3 else draw.randint(1, largest)


def original(of: Case) -> Content:
    """Return what the file of a case holds before the swap."""
    draw = np.random.default_rng([of.seed, of.number])
    source = of.conv if of.to == "linear" else of.linear
    tensors = {"before.weight": _tensor("F32", (4, 6), draw)}
    for module in of.modules:
        tensors[f"{module}.weight"] = fresh(of, source, draw)
        if of.bias:
            tensors[f"{module}.bias"] = fresh(of, of.conv[:1], draw)
    tensors |= {
        "after.weight": _tensor("F32", (4, 6), draw),
        "after.count": Tensor("I64", (3,), draw.bytes(24)),
        "after.none": Tensor("F32", (0, 2), b""),
        "after.scale": _tensor("F16", (), draw),
    }
    return Content(tensors, {"format": "pt", "author": "somebody"})


def swapped(of: Case) -> Content:
    """Return what it has to hold afterwards, but for the record of the swap."""
    before = original(of)
    after = {}
    for name in of.weights:
        dtype, _, data = before.tensors[name]
        elements = codes(data, dtype)
        if of.to == "linear":
            after[name] = stored(from_conv(elements.reshape(of.conv), of), dtype)
        else:
            after[name] = stored(to_conv(elements.reshape(of.linear), of), dtype)
    return before.having(**after)


def fresh(of: Case, shape: Shape, draw: np.random.Generator) -> Tensor:
    """Return a tensor of other numbers; where the case is not plain, of unusual ones too."""
    elements = normal(of.dtype, prod(shape), draw)
    if not of.plain:
        strange = np.array(unusual(of.dtype), elements.dtype)
        chosen = draw.random(len(elements)) < 0.4
        elements = np.where(chosen, draw.choice(strange, len(elements)), elements)
    return Tensor(of.dtype, shape, elements.tobytes())


def stored(elements: Codes, dtype: str) -> Tensor:
    """Return elements as a tensor."""
    return Tensor(dtype, elements.shape, np.ascontiguousarray(elements).tobytes())


def to_conv(matrix: Codes, of: Case) -> Codes:
    """Return a linear weight `[O, F]` as `[O, C, *kernel]`."""
    out, channels, *kernel = of.conv
    if of.layout == "c p1 p2":
        return matrix.reshape(of.conv)
    return np.moveaxis(matrix.reshape(out, *kernel, channels), -1, 1)


def from_conv(weight: Codes, of: Case) -> Codes:
    """Return a conv weight `[O, C, *kernel]` as `[O, F]`."""
    first = weight if of.layout == "c p1 p2" else np.moveaxis(weight, 1, -1)
    return first.reshape(of.linear)


def _tensor(dtype: str, shape: Shape, draw: np.random.Generator) -> Tensor:
    return Tensor(dtype, shape, normal(dtype, prod(shape), draw).tobytes())
