"""How the map in front of a head grows with the image: found by running the graph without values.

Nothing is derived from the layers, so that code between them counts as they do: the graph is run
again on images of other sizes, and the shape of the map is read off.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, fx

from convsurgeon.dense.calls import Call, ancestors, shape_of
from convsurgeon.dense.trace import Traced
from convsurgeon.dense.values import KNOWN, compute, empty
from convsurgeon.geometry import times
from convsurgeon.plan.dense import Obstacle

_FAR = 720_720
"""Pixels to add: so many that the growth tells every stride up to 600 exactly, once rounded."""
_STEPS = (1, 2, 3)
_MAX_MESSAGE = 160


@dataclass(frozen=True, slots=True)
class Growth:
    """How the map grows.

    Attributes:
        stride: pixels for one position more, along each axis.
        obstacles: why it does not.
    """

    stride: tuple[int, ...]
    obstacles: tuple[Obstacle, ...] = ()


class _FailedError(Exception):
    def __init__(self, obstacle: Obstacle) -> None:
        super().__init__(obstacle.reason)
        self.obstacle = obstacle


def growth(traced: Traced, source: fx.Node) -> Growth:
    """Find out how a map grows, one axis of the image after the other.

    Args:
        traced: the forward.
        source: what gives the map.
    """
    axes = len(shape_of(traced.image)) - 2
    before = ancestors(source)
    strides, obstacles = [], []
    for axis in range(axes):
        try:
            strides.append(_along(traced, source, before, axis))
        except _FailedError as error:
            obstacles.append(error.obstacle)
    kept = {(one.place, one.code): one for one in reversed(obstacles)}
    return Growth(() if kept else tuple(strides), tuple(kept.values()))


def _along(traced: Traced, source: fx.Node, before: frozenset[fx.Node], axis: int) -> int:
    native = shape_of(source)
    far = _shapes(traced, before, axis, _FAR)
    _check(far, source, axis)
    gained = far[source][2 + axis] - native[2 + axis]
    if gained > _FAR:
        text = f"the map grows by {gained} positions for {_FAR} pixels: it is larger than the image"
        raise _FailedError(Obstacle(source.name, "CS055", text))
    stride = round(_FAR / gained)
    for steps in _STEPS:
        size = _shapes(traced, before, axis, steps * stride)[source]
        if size[2 + axis] != native[2 + axis] + steps:
            text = f"{steps * stride} pixels more make the map grow from {native[2 + axis]} to "
            text += f"{size[2 + axis]}, not by {steps}"
            raise _FailedError(Obstacle(source.name, "CS055", text))
    return stride


def _check(far: dict[fx.Node, tuple[int, ...]], source: fx.Node, axis: int) -> None:
    """Refuse a map of which another axis grows, or none."""
    native, larger = shape_of(source), far[source]
    changed = [place for place in range(1, len(native)) if larger[place] != native[place]]
    if changed == [2 + axis]:
        return
    if changed:
        grown = ", ".join(map(str, changed))
        text = f"an image that is longer along its axis {2 + axis} makes axis {grown} of the map "
        text += "longer: its order is not channel, height, width, and the Linear's is neither"
        raise _FailedError(Obstacle(source.name, "CS053", text))
    culprit = next((n for n in far if _stops(n, far)), source)
    text = f"its result is {times(shape_of(culprit)[1:])} however large the image is"
    raise _FailedError(Obstacle(culprit.name, "CS055", text))


def _stops(node: fx.Node, far: dict[fx.Node, tuple[int, ...]]) -> bool:
    inputs = (one for one in node.all_input_nodes if far.get(one))
    grown = any(far[one][1:] != shape_of(one)[1:] for one in inputs)
    return grown and bool(far[node]) and far[node][1:] == shape_of(node)[1:]


def _shapes(
    traced: Traced, before: frozenset[fx.Node], axis: int, more: int
) -> dict[fx.Node, tuple[int, ...]]:
    """Return the shape of every value before a map, for an image that is longer along one axis.

    Raises:
        _FailedError: naming the operation that does not take it.
    """
    image = traced.image
    shape = list(shape_of(image))
    shape[0] += 1  # another number of images as well: one that is written in the code shows
    shape[2 + axis] += more
    known: dict[fx.Node, object] = {}
    for node in traced.graph.nodes:
        if node not in before:
            continue
        try:
            if node is image:
                known[node] = empty(traced.model, tuple(shape), node.meta[KNOWN].dtype, traced.fake)
            else:
                known[node] = compute(traced.model, node, known, traced.fake)
        except Exception as error:  # noqa: BLE001 - whatever an operation raises at a size that it cannot take
            place = Call.of(node, traced.model).place
            message = " ".join(str(error).split())[:_MAX_MESSAGE]
            text = f"it takes no larger image: {type(error).__name__}: {message}"
            raise _FailedError(Obstacle(place, "CS055", text)) from None
    _check_images(known, shape[0])
    return {n: tuple(v.shape) if isinstance(v, Tensor) else () for n, v in known.items()}


def _check_images(known: dict[fx.Node, object], images: int) -> None:
    """Refuse what moves positions into the axis of the images, or has their number fixed."""
    for node, value in _tensors(known):
        if node.op != "get_attr" and shape_of(node)[:1] and value.dim() == len(shape_of(node)):
            was, now = shape_of(node)[0], value.shape[0]
            if was == images - 1 and now != images:
                text = f"it has a size in it: {images} images of another size become {now} rows"
                raise _FailedError(Obstacle(node.name, "CS055", text))


def _tensors(known: dict[fx.Node, object]) -> Iterator[tuple[fx.Node, Tensor]]:
    yield from ((node, value) for node, value in known.items() if isinstance(value, Tensor))
