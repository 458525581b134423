"""What stays of a layer when another module takes its place, and what is kept for the way back.

Imported by `swap_module` and `restore_module` alone, with torch at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self, TypeVar

from convsurgeon.nn import PatchLinear, SplitConv
from convsurgeon.nn.patches import INITIALISED
from convsurgeon.rearrangement import Rearrangement

if TYPE_CHECKING:
    from torch import Tensor, nn

    _Module = TypeVar("_Module", bound=nn.Module)

_ORIGIN = "_convsurgeon_origin"


@dataclass(frozen=True, slots=True)
class Origin:
    """What a layer was beyond what its drop-in shows, for the way back.

    Attributes:
        kind: its class.
        settings: the attributes of its class, as they were spelled: a padding "valid", say.
        strides: of its weight, in the order of memory that it had.
    """

    kind: type[nn.Module]
    settings: dict[str, Any]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, layer: nn.Module, weight: Tensor) -> Self:
        """Note what a plain layer is."""
        import torch

        tables = vars(torch.nn.Module())
        own = standard(type(layer)) - tables.keys()
        settings = {name: value for name, value in vars(layer).items() if name in own}
        # Of a weight that overlaps itself this gives the strides of a copy.
        return cls(type(layer), settings, torch.empty_like(weight, device="meta").stride())

    def give_back(self, layer: nn.Module) -> None:
        """Make a new plain layer what the old one was."""
        import torch

        layer.__class__ = self.kind
        vars(layer).update(self.settings)
        weight = layer._parameters["weight"]  # noqa: SLF001 (plain, as `to_conv` has made it)
        if weight is not None and weight.stride() != self.strides:
            empty = torch.empty_strided(
                weight.shape, self.strides, dtype=weight.dtype, device=weight.device
            )
            laid = empty.copy_(weight.detach())
            layer.weight = torch.nn.Parameter(laid, requires_grad=weight.requires_grad)


def note_origin(drop_in: nn.Module, origin: Origin) -> None:
    """Leave on a drop-in what its layer was."""
    vars(drop_in)[_ORIGIN] = origin


def origin_of(drop_in: nn.Module) -> Origin | None:
    """Return what was left there; None for drop-ins that `swap_module` did not make."""
    found = vars(drop_in).get(_ORIGIN)
    return found if isinstance(found, Origin) else None


def standard(kind: Any) -> frozenset[str]:
    """Return the names of what every instance of a layer or a drop-in holds."""
    return _standard(kind)


@lru_cache(maxsize=64)  # asked for every attribute of every layer; mypy holds no class for hashable
def _standard(kind: Any) -> frozenset[str]:
    from torch import nn

    sizes = {nn.Linear: (1, 1), PatchLinear: (1, 1, (1,)), nn.LayerNorm: (1,)}
    arguments: Any = next((v for base, v in sizes.items() if issubclass(kind, base)), (1, 1, 1))
    make: Any = kind  # on the meta device: neither memory nor random numbers
    return frozenset(vars(make(*arguments, device="meta")))


def added(module: nn.Module) -> dict[str, Any]:
    """Return the attributes that somebody set on a layer or a drop-in, by name.

    What was set on the inner layer of a drop-in counts as set on the drop-in, which goes first.
    """
    found: dict[str, Any] = {}
    for inner in holders_of(module):
        found |= {} if inner is module else added(inner)
    known = standard(type(module)) | {_ORIGIN}
    return found | {name: value for name, value in vars(module).items() if name not in known}


def holders_of(module: nn.Module) -> tuple[nn.Module, ...]:
    """Return the modules whose parameters a layer's or a drop-in's weight and bias are.

    Itself, the inner layer of a `PatchLinear`, or the parts of a `SplitConv`.
    """
    if isinstance(module, SplitConv):
        return tuple(module.parts)
    return (module.linear if isinstance(module, PatchLinear) else module,)


def held(module: nn.Module, name: str) -> tuple[nn.Parameter, ...]:
    """Return the parameters that a weight or a bias is made of; empty where there is none.

    Args:
        module: a layer or a drop-in with plain parameters.
        name: "weight" or "bias".
    """
    found = (holder._parameters.get(name) for holder in holders_of(module))  # noqa: SLF001
    return tuple(parameter for parameter in found if parameter is not None)


def bare(layer: nn.Module, kind: type[_Module]) -> _Module:
    """Return a module of a class that holds what its instances do, but no hooks.

    Both those and what somebody set on the layer `carry` brings.
    """
    from torch import nn

    twin = kind.__new__(kind)
    vars(twin).update({name: v for name, v in vars(layer).items() if name in standard(kind)})
    vars(twin).update({name: v for name, v in vars(nn.Module()).items() if "hook" in name})
    return twin


def carry(old: nn.Module, new: nn.Module) -> None:
    """Give a new module the hooks of the old one and what was set on it.

    The very tables of hooks: the handles that were returned for them go on removing.
    """
    vars(new).update({name: value for name, value in vars(old).items() if "hook" in name})
    vars(new).update(added(old))
    for holder in holders_of(new):  # initialisers of transformers pass over what has this mark
        vars(holder).update({n: v for n, v in added(old).items() if n == INITIALISED})


def inherit(
    new: Sequence[nn.Parameter], old: Sequence[nn.Parameter], move: Rearrangement | None
) -> None:
    """Give new parameters what was set on the old ones, and their gradient in the new shape.

    Args:
        new: one, or the parts that a whole is cut into along its first axis.
        old: the same.
        move: from the whole old one to the whole new one; None where they have one shape.
    """
    import torch

    for attributes in map(vars, old):
        for one in new:
            vars(one).update(attributes)
    if all(one.grad is None for one in old):
        return
    grads = [torch.zeros_like(one) if one.grad is None else one.grad for one in old]
    whole = torch.cat(grads) if grads[1:] else grads[0]
    if move is not None:
        whole = whole.reshape(move.split).permute(move.axes).reshape(move.target)
    for one, grad in zip(new, torch.split(whole, [len(part) for part in new]), strict=True):
        # autograd adds to a gradient in the parameter's own order of memory, and warns of another.
        same = grad.stride() == one.stride()
        one.grad = grad if same else torch.empty_like(one).copy_(grad)
