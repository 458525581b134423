"""What becomes of each operation between the flattened map and the output.

A rule is one function and one row of `RULES`. It is given an operation with the states of its
inputs, and answers with an outcome, a refusal, or None where the operation is not its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor, fx, nn

from convsurgeon.dense.calls import (
    AFFINE,
    ARITHMETIC,
    ELEMENTWISE,
    FLATTENING,
    Call,
    ancestors,
    shape_of,
)
from convsurgeon.dense.states import Kind, Outcome, State
from convsurgeon.dense.values import KNOWN
from convsurgeon.geometry import Refusal, times
from convsurgeon.plan.dense import AXIS, CONV, DROP, KEEP, NORM, HeadStep


@dataclass(frozen=True, eq=False, slots=True)
class Scene:
    """What rules may ask beside the operation.

    Attributes:
        states: of every value of the head so far.
        layers: why a layer must not be replaced, by the identity of its module.
        axes: how many spatial axes the images have.
    """

    states: Mapping[fx.Node, State]
    layers: Mapping[int, Refusal]
    axes: int

    def of(self, call: Call) -> tuple[State, ...]:
        """Return the states of an operation's inputs; values of the trunk have none."""
        return tuple(self.states[n] for n in call.node.all_input_nodes if n in self.states)


_STAYS = "nothing: the map stays a map"
Rule = Callable[[Call, Scene], "Outcome | Refusal | None"]


def flattening(call: Call, scene: Scene) -> Outcome | Refusal | None:
    """Flattening what is flat already, or a map of one position."""
    (state, *_) = scene.of(call)
    if call.name not in FLATTENING or call.source is None or call.source not in scene.states:
        return None
    rows = (shape_of(call.source)[0], state.features)
    if call.shape != rows:
        return None
    return _step(call, DROP, _STAYS, state)


def squeezing(call: Call, scene: Scene) -> Outcome | Refusal | None:
    """Taking away an axis of length 1 that a global pool left."""
    axis = call.argument(1, "dim")
    if call.name != "squeeze" or call.source not in scene.states or not isinstance(axis, int):
        return None
    (state,) = scene.of(call)
    positions = axis % (len(call.shape) + 1) > 1
    return _step(call, DROP, _STAYS, state) if state.averaged and positions else None


def linear(call: Call, scene: Scene) -> Outcome | Refusal | None:
    """A Linear over the flattened map, or over what a Linear gave."""
    if not isinstance(call.module, nn.Linear):
        return None
    (state,) = scene.of(call)
    if refusal := scene.layers.get(id(call.module)):
        return refusal
    kernel = state.size if state.kind is Kind.FLAT else (1,) * scene.axes
    shape = (call.module.out_features, state.channels, *kernel)
    before = f"Linear {call.module.in_features} to {shape[0]}"
    after = f"Conv{scene.axes}d {shape[1]} to {shape[0]}, kernel {times(kernel)}"
    step = HeadStep(call.node.name, call.place, CONV, before, after, shape)
    return Outcome(step, state.behind_linear(shape[0]))


def bare_linear(call: Call, _: Scene) -> Outcome | Refusal | None:
    """A product with a parameter that no nn.Linear holds: its state dict has no such layer."""
    if call.name != "linear" or call.module is not None:
        return None
    weight = call.argument(1, "weight")
    name = weight.target if isinstance(weight, fx.Node) else "a constant"
    return Refusal("CS007", f"{name} is used by a forward of its own, not by an nn.Linear")


def batch_norm(call: Call, scene: Scene) -> Outcome | Refusal | None:
    """A BatchNorm1d: one pair of numbers for each feature, which is then for each channel."""
    if call.name != "BatchNorm1d":
        return None
    (state,) = scene.of(call)
    if refusal := scene.layers.get(id(call.module)):
        return refusal
    if state.kind is Kind.FLAT:
        text = f"it normalises each of {state.features} positions of the flattened map by itself"
        return Refusal("CS054", text)
    if scene.axes == 1:
        return _step(call, KEEP, "the same, for each channel", state)
    return _step(call, NORM, f"BatchNorm{scene.axes}d, the same numbers for each channel", state)


def other_norm(call: Call, scene: Scene) -> Outcome | Refusal | None:
    """A norm over all features of an image: on a larger map there is no such set of numbers."""
    if not call.name.lower().replace("_", "").endswith(("layernorm", "groupnorm", "rmsnorm")):
        return None
    (state, *_) = scene.of(call)
    if state.kind is Kind.FLAT:
        return Refusal("CS053", f"a {call.name} stands between the flattening and the Linear")
    return Refusal("CS054", f"a {call.name} takes {state.kind.value}")


def softmax(call: Call, scene: Scene) -> Outcome | Refusal | None:
    """A softmax over the classes, which are the channels of a map."""
    if call.name not in ("Softmax", "LogSoftmax", "softmax", "log_softmax"):
        return None
    (state,) = scene.of(call)
    axis = call.setting(1, "dim")
    if state.kind is not Kind.ROWS:
        return _unmovable(call, state)
    if axis not in (None, 1, -1):
        return Refusal(
            "CS054", f"a {call.name} along axis {axis}, which is not that of the classes"
        )
    return _step(call, AXIS, "the same along the channels", state)


def elementwise(call: Call, scene: Scene) -> Outcome | Refusal | None:
    """What treats every number by itself: activations, dropout, casts."""
    if call.name not in ELEMENTWISE | AFFINE or not _alone(call, scene):
        return None
    (state,) = scene.of(call)
    if state.averaged and call.name not in AFFINE:
        return _unmovable(call, state)
    return _step(call, KEEP, "the same at each position", state)


def prelu(call: Call, scene: Scene) -> Outcome | Refusal | None:
    """A PReLU: one slope for all, or one for each feature, which is then for each channel."""
    if not isinstance(call.module, nn.PReLU):
        return None
    (state,) = scene.of(call)
    if state.averaged:
        return _unmovable(call, state)
    if state.kind is Kind.FLAT and call.module.num_parameters > 1:
        return Refusal("CS054", f"it has a slope for each of {state.features} flattened positions")
    return _step(call, KEEP, "the same for each channel", state)


def arithmetic(call: Call, scene: Scene) -> Outcome | Refusal | None:
    """The sum or product of two values over the same map, or of one and a number."""
    if call.name not in ARITHMETIC or not _alone(call, scene):
        return None
    state, *others = scene.of(call)
    if any(not state.like(other) for other in others):
        return Refusal("CS054", f"{call.name} of two values that do not lie over the same map")
    product = call.name not in ("add", "sub", "iadd", "isub")
    if state.averaged and others and product:
        return _unmovable(call, state)
    openers = state.openers.union(*(other.openers for other in others))
    return _step(call, KEEP, "the same at each position", replace(state, openers=openers))


def concatenation(call: Call, scene: Scene) -> Outcome | Refusal | None:
    """Features of several Linears side by side, which are then channels."""
    if call.name not in ("cat", "concat", "concatenate"):
        return None
    states = scene.of(call)
    parts = call.argument(0, "tensors")
    axis = call.argument(1, "dim", 0)
    rows = all(one.kind in (Kind.ROWS, Kind.SCORES) for one in states)
    if len(states) != len(parts) or not rows or len({one.kind for one in states}) > 1:
        return Refusal("CS054", "it puts other values than the outputs of Linears side by side")
    if axis not in (1, -1):
        return Refusal("CS054", f"it puts values side by side along axis {axis}, not the features'")
    openers = frozenset[fx.Node]().union(*(one.openers for one in states))
    state = replace(states[0], channels=sum(one.channels for one in states), openers=openers)
    return _step(call, AXIS, "the same along the channels", state)


RULES: tuple[Rule, ...] = (
    flattening,
    squeezing,
    linear,
    bare_linear,
    batch_norm,
    other_norm,
    softmax,
    elementwise,
    prelu,
    arithmetic,
    concatenation,
)
"""The first that knows an operation decides."""


def decide(call: Call, scene: Scene) -> Outcome | Refusal:
    """Return what the rules say about an operation; a refusal where none of them knows it."""
    found = next((v for rule in RULES if (v := rule(call, scene)) is not None), None)
    if found is not None:
        return found
    kinds = {state.kind for state in scene.of(call)}
    if Kind.FLAT in kinds:
        text = f"{call.name} takes the flattened map, in front of the Linear"
        return Refusal("CS053", text)
    return Refusal("CS054", f"{call.name} of {kinds.pop().value} is not known to work on maps")


def _alone(call: Call, scene: Scene) -> bool:
    """Tell whether all that goes in is of the head, or a single number that no image changes."""
    others = [node for node in call.node.all_input_nodes if node not in scene.states]
    single = all(shape_of(node) in ((), (1,)) and _is_tensor(node) for node in others)
    return single and all(one.op != "placeholder" for node in others for one in ancestors(node))


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta[KNOWN], Tensor)


def _unmovable(call: Call, state: State) -> Refusal:
    if not state.averaged:
        return Refusal("CS054", f"a {call.name} of {state.kind.value}")
    return Refusal("CS054", f"{call.name} is not linear, so that no mean can be moved behind it")


def _step(call: Call, action: str, after: str, state: State) -> Outcome:
    module = call.place if call.module is not None else ""
    return Outcome(HeadStep(call.node.name, module, action, call.name, after), state)
