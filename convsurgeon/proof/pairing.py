"""Which weight corresponds to which, and how: read from the recipes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from convsurgeon.dtypes import PLAIN_FLOATS
from convsurgeon.errors import RecipeError
from convsurgeon.geometry import Geometry
from convsurgeon.header import TensorInfo
from convsurgeon.plan import Step


@dataclass(frozen=True, slots=True)
class Side:
    """One form of a layer.

    Attributes:
        form: `conv2d`, `linear`, ...
        shape: of its weight.
        layout: in which a patch is flattened; matters where the form is `linear`.
    """

    form: str
    shape: tuple[int, ...]
    layout: str


@dataclass(frozen=True, slots=True)
class Pair:
    """The two forms of one layer, and the steps that lead from one to the other."""

    key: str
    steps: tuple[Step, ...]

    @property
    def before(self) -> Side:
        """The original form."""
        first = self.steps[0]
        return Side(first.source_form, first.source_shape, first.layout)

    @property
    def after(self) -> Side:
        """The new form."""
        last = self.steps[-1]
        return Side(last.target_form, last.target_shape, last.layout)


def check_dtype(tensor: TensorInfo) -> None:
    """Refuse a recipe that claims to have rewritten what no rule rewrites.

    Raises:
        RecipeError: CS082.
    """
    if tensor.dtype not in PLAIN_FLOATS:
        message = f"the recipe speaks of {tensor.name}, whose dtype is {tensor.dtype}"
        raise RecipeError("CS082", message)


def pairs(steps: tuple[Step, ...]) -> tuple[Pair, ...]:
    """Group steps by weight.

    Raises:
        RecipeError: CS082 where the steps of one weight do not follow from each other, or a step
            is about a convolution whose windows are no patches.
    """
    by_key: dict[str, list[Step]] = {}
    for step in steps:
        by_key.setdefault(step.key, []).append(step)
    for key, chain in by_key.items():
        if not all(_plain(step.geometry.effective()) for step in chain):
            message = (
                f"the recipe's {key} has padding, dilation or groups: no two forms of one layer"
            )
            raise RecipeError("CS082", message)
        for step, following in pairwise(chain):
            if step.target_shape != following.source_shape:
                raise RecipeError("CS082", f"the recipe's steps for {key} do not follow")
    return tuple(Pair(key, tuple(chain)) for key, chain in by_key.items())


def _plain(geometry: Geometry) -> bool:
    """Tell whether every window is a patch of its own, which is what both forms are run on."""
    return not any(geometry.padding) and set(geometry.dilation) == {1} and geometry.groups == 1
