"""Which weight corresponds to which, and how: read from the recipes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from convsurgeon.dtypes import PLAIN_FLOATS
from convsurgeon.errors import RecipeError
from convsurgeon.geometry import LINEAR, Geometry
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
    """The two forms of one layer.

    Attributes:
        key: name of the weight before.
        steps: what leads from one to the other.
        name: of the weight after; the recipe declares it where it is another.
    """

    key: str
    steps: tuple[Step, ...]
    name: str

    @property
    def renamed(self) -> dict[str, str]:
        """Names of weight and bias before and after; empty where they stay."""
        if self.name == self.key:
            return {}
        return {self.key: self.name, _bias(self.key): _bias(self.name)}

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
    by_name: dict[str, list[Step]] = {}  # by the name after the last step so far
    for step in steps:
        by_name[_name_after(step)] = [*by_name.pop(step.key, []), step]
    for chain in by_name.values():
        key = chain[0].key
        if not all(_plain(step.geometry.effective()) for step in chain):
            message = (
                f"the recipe's {key} has padding, dilation or groups: no two forms of one layer"
            )
            raise RecipeError("CS082", message)
        for step, following in pairwise(chain):
            if step.target_shape != following.source_shape:
                raise RecipeError("CS082", f"the recipe's steps for {key} do not follow")
    return tuple(Pair(chain[0].key, tuple(chain), name) for name, chain in by_name.items())


def _name_after(step: Step) -> str:
    """Return what a weight is called after a step, by rules of this package's own.

    `proj.weight` is `proj.linear.weight` as an inner layer's, and the reverse.

    Raises:
        RecipeError: CS082 for a name that no such step can have made.
    """
    *path, last = step.key.split(".")
    if not step.child:
        return step.key
    if last == "weight" and step.target_form == LINEAR:
        return ".".join((*path, "linear", last))
    if last == "weight" and path[-1:] == ["linear"]:
        return ".".join((*path[:-1], last))
    raise RecipeError("CS082", f"the recipe renames {step.key}, which is no weight of a layer")


def _bias(weight: str) -> str:
    return f"{weight[: -len('weight')]}bias"


def _plain(geometry: Geometry) -> bool:
    """Tell whether every window is a patch of its own, which is what both forms are run on."""
    return not any(geometry.padding) and set(geometry.dilation) == {1} and geometry.groups == 1
