"""Where a head begins: at a flattened map, or at a global average pool."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import fx

from convsurgeon.dense.calls import AFFINE, ELEMENTWISE, FLATTENING, Call, shape_of
from convsurgeon.dense.states import Kind, State
from convsurgeon.dense.trace import Traced
from convsurgeon.geometry import Refusal, times
from convsurgeon.plan.dense import DROP, HeadStep, Obstacle

_ADAPTIVE = "adaptive"
_AVERAGE = "avg"


@dataclass(frozen=True, eq=False, slots=True)
class Opening:
    """A place where a head may begin.

    Attributes:
        node: the flattening, or the pool.
        source: the map in front of it, and in front of pools that are dropped.
        state: of what `node` gives.
        steps: the pools that are dropped, and the flattening.
        obstacle: what stands against it, if it is one; None otherwise.
    """

    node: fx.Node
    source: fx.Node
    state: State
    steps: tuple[HeadStep, ...]
    obstacle: Obstacle | None = None


def openings(traced: Traced) -> Iterator[Opening]:
    """Yield every place where a head may begin, in the order of the forward."""
    seen: set[fx.Node] = set()
    for node in traced.graph.nodes:
        call = Call.of(node, traced.model)
        found = _flattening(call, traced) or _mean(call, traced) or _global(call, traced)
        if found is not None and found.node not in seen:
            seen.add(found.node)
            yield found


def _flattening(call: Call, traced: Traced) -> Opening | None:
    source = call.source
    if call.name not in FLATTENING or source is None:
        return None
    shape = shape_of(source)
    if len(shape) < 3 or call.shape != (shape[0], shape[1] * _product(shape[2:])):
        return None
    dropped: list[HeadStep] = []
    obstacle = None
    for behind in _backwards(source, traced):
        ahead = behind.source
        if ahead is None or _ADAPTIVE not in behind.name.lower():
            continue
        size, after = shape_of(ahead)[2:], behind.shape[2:]
        if size == after:
            text = f"nothing: it changes nothing at {times(size)}, and would fix every larger map"
            step = HeadStep(
                behind.node.name, _module(behind), DROP, f"{behind.name} to {times(after)}", text
            )
            dropped.append(step)
            source = ahead
        elif set(after) == {1} and _averages(behind):
            return _pooled(behind, traced)
        else:
            text = f"{behind.name} makes {times(after)} of {times(size)}, at any size: "
            text += f"give an example whose map is {times(after)} there"
            obstacle = Obstacle(behind.place, "CS055", text)
    obstacle = _no_map(call, shape, traced) or obstacle
    channels, size = shape[1], shape[2:]
    before = f"{call.name} of {channels}×{times(size)}"
    step = HeadStep(call.node.name, _module(call), DROP, before, "nothing: the map stays a map")
    state = State(Kind.FLAT, channels, size, frozenset({call.node}))
    return Opening(call.node, source, state, (*reversed(dropped), step), obstacle)


def _mean(call: Call, traced: Traced) -> Opening | None:
    """A mean over all positions, which is a global average pool."""
    shape = shape_of(call.source) if call.source is not None else ()
    if call.name != "mean" or len(shape) < 3:
        return None
    axes = call.argument(1, "dim")
    taken = {
        axis % len(shape)
        for axis in (axes if isinstance(axes, list | tuple) else [axes])
        if isinstance(axis, int)
    }
    return _pooled(call, traced) if taken == set(range(2, len(shape))) else None


def _global(call: Call, traced: Traced) -> Opening | None:
    """A global average pool, whatever takes its axes away."""
    if not _averages(call) or call.source is None or set(call.shape[2:]) != {1}:
        return None
    return _pooled(call, traced) if set(shape_of(call.source)[2:]) != {1} else None


def _averages(call: Call) -> bool:
    name = call.name.lower()
    return _ADAPTIVE in name and _AVERAGE in name


def _pooled(call: Call, traced: Traced) -> Opening | None:
    if call.source is None:
        return None
    shape = shape_of(call.source)
    state = State(Kind.POOLED, shape[1], shape[2:], frozenset({call.node}))
    text = "nothing here: the mean over the map is taken behind the last Linear"
    step = HeadStep(
        call.node.name, _module(call), DROP, f"{call.name} of {shape[1]}×{times(shape[2:])}", text
    )
    return Opening(call.node, call.source, state, (step,), _no_map(call, shape, traced))


def _no_map(call: Call, shape: tuple[int, ...], traced: Traced) -> Obstacle | None:
    """Say that what goes in has other axes than the image; None where it has the same."""
    axes = len(shape_of(traced.image))
    if len(shape) == axes:
        return None
    text = f"what it takes has {len(shape)} axes, the image {axes}: it is no map of the image"
    return Obstacle(call.place, "CS053", text)


def offered(opening: Opening) -> Refusal:
    """Say what a global average pool could become."""
    text = (
        f"a global average pool over {times(opening.state.size)} stands before the Linear, which "
    )
    text += "works at any size; pool='behind' makes a class-activation map of it"
    return Refusal("CS029", text)


def _backwards(node: fx.Node, traced: Traced) -> Iterator[Call]:
    """Yield a node and those before it, as far as they keep positions apart and alone."""
    at: fx.Node | None = node
    while at is not None:
        call = Call.of(at, traced.model)
        yield call
        keeps = call.name in ELEMENTWISE | AFFINE or _ADAPTIVE in call.name.lower()
        at = call.source if keeps else None


def _module(call: Call) -> str:
    return call.place if call.module is not None else ""


def _product(sizes: tuple[int, ...]) -> int:
    count = 1
    for size in sizes:
        count *= size
    return count
