"""What stands against a replacement in a live model alone: each one function and one row.

The rules for files have been asked before. Imported by `swap_module` and `restore_module` alone,
with torch at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convsurgeon.api.live.keeping import added, held, holders_of, origin_of, standard
from convsurgeon.api.live.scene import Scene
from convsurgeon.api.live.survey import declared_shape
from convsurgeon.geometry import Refusal
from convsurgeon.nn import FlatConv1d, FlatConv2d, FlatConv3d, PatchLinear, SplitConv
from convsurgeon.sources.layers import reforwarded

if TYPE_CHECKING:
    from torch import nn

_STATE_HOOKS = (
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)
_TABLES = ("_parameters", "_buffers", "_modules")


@dataclass(frozen=True, eq=False, slots=True)
class Standing:
    """A layer, or a drop-in, where it stands.

    Attributes:
        module: the layer.
        scene: of the model.
    """

    module: nn.Module
    scene: Scene

    @property
    def kind(self) -> str:
        """The name of its class."""
        return type(self.module).__name__


Objection = Callable[[Standing], Refusal | None]


def the_model_itself(it: Standing) -> Refusal | None:
    """Refuse the root: there is no place to put another module."""
    if it.module is not it.scene.model:
        return None
    return Refusal("CS022", "the model is the layer itself: wrap it in nn.Sequential")


def the_compiled_itself(it: Standing) -> Refusal | None:
    """Refuse what torch.compile was called with: the compiled code calls this very module."""
    if id(it.module) not in it.scene.compiled and "_compiled_call_impl" not in vars(it.module):
        return None
    return Refusal("CS022", f"this {it.kind} was compiled by itself: its code calls the old one")


def held_aside(it: Standing) -> Refusal | None:
    """Refuse what an attribute holds that is no child: that would go on calling the old one."""
    place = it.scene.aside.get(id(it.module))
    return Refusal("CS022", f"{place} holds it too, and not as a child") if place else None


def read_by_parent(it: Standing) -> Refusal | None:
    """Refuse a child whose weight its parent reads, where that gets another shape."""
    reader = it.scene.readers.get(id(it.module))
    return Refusal("CS021", f"the forward of {reader} reads its weight") if reader else None


def no_plain_tensor(it: Standing) -> Refusal | None:
    """Refuse parameters that are quantised, spread over devices, sparse, or no parameters."""
    from torch import nn, strided

    for holder in holders_of(it.module):
        for name, tensor in holder._parameters.items():  # noqa: SLF001 (the attribute may be computed)
            if tensor is None:
                continue
            if type(tensor) is not nn.Parameter or tensor.layout is not strided:
                text = f"its {name} is a {type(tensor).__name__} of {tensor.layout}"
                return Refusal("CS023", f"{text}, no plain tensor")
            if tensor.is_inference():
                return Refusal("CS023", f"its {name} was made under torch.inference_mode")
        weight, declared = holder._parameters.get("weight"), declared_shape(holder)  # noqa: SLF001
        if weight is None and not isinstance(holder, nn.LayerNorm):  # which may have none
            return Refusal("CS008", f"the weight of this {it.kind} is computed from other tensors")
        if declared and weight is not None and tuple(weight.shape) != declared:
            text = f"its weight is {list(weight.shape)}, not {list(declared)}: sharded or packed"
            return Refusal("CS023", text)
    return None


def sharded(it: Standing) -> Refusal | None:
    """Refuse what FullyShardedDataParallel took over: it fills the old module's weight again."""
    if id(it.module) not in it.scene.sharded:
        return None
    text = "FullyShardedDataParallel manages its parameters: swap before wrapping"
    return Refusal("CS025", text)


def replicated(it: Standing) -> Refusal | None:
    """Refuse a new parameter within DistributedDataParallel, which would never be synchronised."""
    if id(it.module) not in it.scene.replicated:
        return None
    text = "DistributedDataParallel has taken its parameters: swap before wrapping"
    return Refusal("CS025", text)


def forward_replaced(it: Standing) -> Refusal | None:
    """Refuse a forward that was replaced on the instance."""
    text = reforwarded(it.module)
    return Refusal("CS007", text) if text else None


def narrow_backward_hooks(it: Standing) -> Refusal | None:
    """Refuse hooks of torch's old kind: they see the gradients of the last operation only."""
    full = it.module._is_full_backward_hook  # noqa: SLF001 (torch shows it nowhere)
    if full or not it.module._backward_hooks:  # noqa: SLF001
        return None
    text = "a hook of register_backward_hook sees its last operation, which would be another"
    return Refusal("CS024", text)


def bound_hooks(it: Standing) -> Refusal | None:
    """Refuse hooks on loading that know the old module, and fail when it is gone."""
    hooks = it.module._load_state_dict_pre_hooks.values()  # noqa: SLF001 (torch shows them nowhere)
    if not any(getattr(hook, "with_module", False) for hook in hooks):
        return None
    return Refusal("CS024", "a hook on loading its state dict is bound to this very module")


def state_hooks(it: Standing) -> Refusal | None:
    """Refuse hooks on a state dict whose names or shapes change."""
    names = [name for name in _STATE_HOOKS if vars(it.module).get(name)]
    if not names:
        return None
    return Refusal("CS024", f"it has {', '.join(names)}, and its state dict will be another")


def gradient_hooks(it: Standing) -> Refusal | None:
    """Refuse hooks on the gradient of a weight that becomes another parameter."""
    return _gradient_hooks(it, "weight")


def gradient_hooks_of_bias(it: Standing) -> Refusal | None:
    """Refuse hooks on the gradient of a bias that is cut into parts, or joined of them."""
    return _gradient_hooks(it, "bias")


def _gradient_hooks(it: Standing, name: str) -> Refusal | None:
    for one in held(it.module, name):
        if one._backward_hooks or one._post_accumulate_grad_hooks:  # noqa: SLF001
            text = f"a hook on its {name}'s gradient expects the shape that it has"
            return Refusal("CS024", text)
    return None


def holds_more(it: Standing) -> Refusal | None:
    """Refuse buffers, parameters and children beside what a layer or a drop-in has by itself."""
    holders = holders_of(it.module)
    known = {("_parameters", "weight"), ("_parameters", "bias")}
    if it.module not in holders:
        known |= {("_modules", "linear"), ("_modules", "parts"), ("_buffers", "compute")}
    every = {(t, name) for one in {it.module, *holders} for t in _TABLES for name in vars(one)[t]}
    more = sorted(f"a buffer {n}" if n in {"weight", "bias"} else n for _, n in every - known)
    if not more:
        return None
    return Refusal("CS024", f"it holds {', '.join(more)} beside its weight and bias")


def taken_by(kind: type[nn.Module]) -> Objection:
    """Refuse attributes that somebody set under a name that the new module uses itself."""

    def taken(it: Standing) -> Refusal | None:
        names = sorted(set(added(it.module)) & {*dir(kind), *standard(kind)})
        if not names:
            return None
        text = f"somebody set {', '.join(names)} on it, which a {kind.__name__} has itself"
        return Refusal("CS024", text)

    return taken


def class_changed(it: Standing) -> Refusal | None:
    """Refuse a drop-in of another class: parametrised, sharded, or derived from."""
    if type(it.module).__module__.startswith("convsurgeon.nn."):
        return None
    return Refusal("CS007", f"a {it.kind}, which may be more than the drop-in that it was")


def inner_replaced(it: Standing) -> Refusal | None:
    """Refuse a `PatchLinear` whose inner layer an adapter or a quantiser took."""
    from torch import nn

    inner = it.module.linear if isinstance(it.module, PatchLinear) else None
    if inner is None or type(inner) is nn.Linear:
        return None
    # Theirs may be called Linear as well.
    kind = f"{type(inner).__name__} of {type(inner).__module__.partition('.')[0]}"
    return Refusal("CS027", f"its inner layer is a {kind}, no plain nn.Linear")


def takes_maps(it: Standing) -> Refusal | None:
    """Refuse what was built to take maps: no nn.Linear does, unless one stood here before."""
    flat = isinstance(it.module, (FlatConv1d, FlatConv2d, FlatConv3d, SplitConv))
    if not flat or it.module.input != "map" or origin_of(it.module) is not None:
        return None
    return Refusal("CS026", f"this {it.kind} takes maps, which no nn.Linear does")


def cut_at(limit: int) -> Objection:
    """Refuse what stands against a Linear of at most so many channels a convolution."""
    from torch import nn

    def cut(it: Standing) -> Refusal | None:
        layer = it.module
        if not isinstance(layer, nn.Linear):
            return None
        # Cutting the inputs would add up partial sums, each rounded: another computation.
        if layer.in_features > limit:
            text = f"it has {layer.in_features} inputs, the limit is {limit} channels"
            return Refusal("CS087", text)
        if layer.out_features <= limit:
            return None
        return gradient_hooks_of_bias(it) or taken_by(SplitConv)(it)

    return cut


STANDING = (the_model_itself, the_compiled_itself, sharded, forward_replaced, held_aside)
"""What is asked of every layer: can another module stand there at all?"""

SAME_PARAMETERS = (no_plain_tensor, narrow_backward_hooks, bound_hooks)
"""What is asked where the new module holds the very parameters."""

NEW_WEIGHT = (
    *(no_plain_tensor, narrow_backward_hooks, holds_more),
    *(replicated, state_hooks, gradient_hooks),
)
"""What is asked where the weight becomes another parameter, of another shape."""
