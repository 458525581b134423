"""The head of a classifier: from the places where one may begin to its output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import fx, nn

from convsurgeon.dense.calls import Call, shape_of
from convsurgeon.dense.openings import Opening, offered, openings
from convsurgeon.dense.rules import Scene, decide
from convsurgeon.dense.states import Kind, NoHeadError, State
from convsurgeon.dense.trace import IMAGES, Traced
from convsurgeon.geometry import Refusal
from convsurgeon.plan.dense import AXIS, CONV, DROP, NORM, HeadStep, Obstacle
from convsurgeon.sources.layers import examine

_DOUBTED = ("CS053", "CS054")
_NONE = Refusal("CS028", "no Linear behind a flattened map leads to the output")


@dataclass(frozen=True, eq=False, slots=True)
class Head:
    """What lies between the map and the output.

    Attributes:
        source: the map; None where there is no head.
        size: of it, at the native size.
        steps: every operation, in the order of the forward.
        obstacles: what stands against it.
        averaged: whether a mean over the map is left to be taken.
        doubts: for each Linear behind something that no map can be taken through, that.
    """

    source: fx.Node | None
    size: tuple[int, ...] = ()
    steps: tuple[HeadStep, ...] = ()
    obstacles: tuple[Obstacle, ...] = ()
    averaged: bool = False
    doubts: Mapping[str, Obstacle] = field(default_factory=dict)


def read_head(traced: Traced, *, behind: bool) -> Head:
    """Find the head of a classifier, and decide about each of its operations.

    Args:
        traced: the forward.
        behind: whether a global average pool may be moved behind the last Linear.
    """
    found = list(openings(traced))
    layers = _layers(traced)
    reasons: list[Obstacle] = []
    while found:
        walk = _Walk(traced, {one.node: one for one in found}, layers)
        try:
            walk.run()
        except NoHeadError as error:
            # A squeeze-and-excitation block, say: it is a part of the trunk as it stands.
            found = [one for one in found if one.node not in error.openers]
            if error.kind is Kind.FLAT:
                reasons.append(Obstacle.of(error.place, error.refusal))
            continue
        return walk.head(behind=behind) or Head(None, obstacles=tuple(reasons) or _no_head())
    return Head(None, obstacles=tuple(reasons) or _no_head())


def _no_head() -> tuple[Obstacle, ...]:
    return (Obstacle.of("", _NONE),)


class _Walk:
    """One walk through a graph with the openings that are left."""

    def __init__(
        self, traced: Traced, opened: dict[fx.Node, Opening], layers: dict[int, Refusal]
    ) -> None:
        self._traced, self._opened = traced, opened
        self._states: dict[fx.Node, State] = {}
        axes = len(shape_of(traced.image)) - 2
        self._scene = Scene(self._states, layers, axes)
        self._steps: list[tuple[fx.Node, HeadStep]] = []
        self._obstacles: list[Obstacle] = []
        self._given: list[State] = []
        self._doubts: dict[str, Obstacle] = {}

    def run(self) -> None:
        """Decide about every operation.

        Raises:
            NoHeadError: where an opening turns out to be a part of the trunk.
        """
        for node in self._traced.graph.nodes:
            # What is open already stays so: a flattening behind a pool opens nothing.
            if any(one in self._states for one in node.all_input_nodes):
                self._follow(Call.of(node, self._traced.model))
            elif node in self._opened:
                self._states[node] = self._opened[node].state

    def _follow(self, call: Call) -> None:
        if call.node.op == "output":
            self._given = list(self._scene.of(call))
            return
        if not call.shape:
            return  # a size: whatever takes it is asked itself
        found = decide(call, self._scene)
        if not isinstance(found, Refusal) and found.step.action != DROP and _counts(call.node):
            found = Refusal("CS055", "it holds the number of images: write x.size(0) for len(x)")
        if not isinstance(found, Refusal):
            self._states[call.node] = found.state
            self._steps.append((call.node, found.step))
            doubtful = [one for one in self._obstacles if one.code in _DOUBTED]
            if found.step.action == CONV and doubtful:
                self._doubts[found.step.module] = doubtful[0]
            return
        states = self._scene.of(call)
        if len(call.shape) > 2:
            raise NoHeadError(_joined(states), call.place, found)
        self._obstacles.append(Obstacle.of(call.place, found))
        self._states[call.node] = _joined(states).behind_linear(call.shape[-1])

    def head(self, *, behind: bool) -> Head | None:
        """Return what was found; None where nothing of it leads to the output."""
        used = frozenset[fx.Node]().union(*(state.openers for state in self._given))
        opened = [one for node, one in self._opened.items() if node in used]
        if not opened:
            return None
        steps = {step.node: step for one in opened for step in one.steps}
        steps |= {
            step.node: step for node, step in self._steps if self._states[node].openers <= used
        }
        order = {node.name: place for place, node in enumerate(self._traced.graph.nodes)}
        pooled = [one for one in opened if one.state.averaged]
        obstacles = [one.obstacle for one in opened if one.obstacle]
        obstacles += self._obstacles
        obstacles += [
            Obstacle.of(one.steps[0].module, offered(one)) for one in pooled if not behind
        ]
        obstacles += self._strays(opened)
        obstacles += self._lost(steps.values())
        ordered = tuple(sorted(steps.values(), key=lambda step: order[step.node]))
        first = opened[0]
        found = tuple(obstacles)
        size, averaged = first.state.size, bool(pooled)
        return Head(first.source, size, ordered, found, averaged, self._doubts)

    def _strays(self, opened: list[Opening]) -> list[Obstacle]:
        """Say what of the head as a whole cannot be: two maps, or rows without a Linear."""
        sources = {one.source for one in opened}
        found = []
        if len(sources) > 1:
            names = ", ".join(sorted(source.name for source in sources))
            found.append(Refusal("CS054", f"the head takes several maps: {names}"))
        bare = [one for one in self._given if one.kind in (Kind.FLAT, Kind.POOLED)]
        if bare and len(bare) == len(self._given):
            return [Obstacle.of("", _NONE)]
        if bare:
            found.append(
                Refusal("CS054", f"{bare[0].kind.value} is given out as well, without a Linear")
            )
        return [Obstacle.of("", one) for one in found]

    def _lost(self, steps: Iterable[HeadStep]) -> Iterator[Obstacle]:
        """Say which modules do more than their class, or have hooks and would become others."""
        for step in (step for step in steps if step.module):
            own = vars(self._traced.model.get_submodule(step.module))
            hooks = [name for name, value in own.items() if name.endswith("_hooks") and value]
            if step.action in (DROP, NORM, AXIS) and hooks:
                text = f"it has {', '.join(hooks)}, which would be lost"
                yield Obstacle(step.module, "CS024", text)
            if "forward" in own and step.action != CONV:
                yield Obstacle(step.module, "CS007", "its forward was replaced")


def _counts(node: fx.Node) -> bool:
    """Tell whether an operation is given the number of images as a plain number."""
    found: list[object] = []
    fx.node.map_aggregate((node.args, node.kwargs), found.append)
    return IMAGES in found


def _joined(states: tuple[State, ...]) -> State:
    openers = frozenset[fx.Node]().union(*(state.openers for state in states))
    return replace(states[0], openers=openers)


def _layers(traced: Traced) -> dict[int, Refusal]:
    """Say which layers must stay as they are, by identity, and why."""
    model = traced.model
    modules = dict(model.named_modules(remove_duplicate=False))
    found = {
        id(modules[name]): layer.refusal
        for name, layer in examine(torch, model).items()
        if layer.refusal is not None
    }
    holders: dict[int, set[int]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            holders.setdefault(id(parameter), set()).add(id(module))
    nodes = list(traced.graph.nodes)
    calls = Counter(id(modules[str(n.target)]) for n in nodes if n.op == "call_module")
    read = {str(node.target) for node in nodes if node.op == "get_attr"}
    for name, module in modules.items():
        if id(module) in found or not isinstance(module, (nn.Linear, nn.BatchNorm1d)):
            continue
        count = calls[id(module)]
        refusal = _shared(name, module, holders, read) if type(module) is nn.Linear else None
        if count > 1:
            refusal = Refusal("CS016", f"it is called {count} times in one forward")
        if refusal is not None:
            found[id(module)] = refusal
    return found


def _shared(
    name: str, module: nn.Linear, holders: dict[int, set[int]], read: set[str]
) -> Refusal | None:
    if len(holders[id(module.weight)]) > 1:
        return Refusal("CS016", "its weight is tied to that of another layer")
    if f"{name}.weight" in read:
        return Refusal("CS016", "the forward reads its weight beside calling it")
    return None
