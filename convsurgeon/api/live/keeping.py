"""What stays of a layer when another module takes its place, and what is kept for the way back.

Imported by `swap_module` and `restore_module` alone, with torch at hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

from convsurgeon.nn import PatchLinear
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


def standard(kind: type[nn.Module]) -> frozenset[str]:
    """Return the names of what every instance of a layer or a drop-in holds."""
    from torch import nn

    sizes = {nn.Linear: (1, 1), PatchLinear: (1, 1, (1,))}
    arguments: Any = next((v for base, v in sizes.items() if issubclass(kind, base)), (1, 1, 1))
    make: Any = kind  # on the meta device: neither memory nor random numbers
    return frozenset(vars(make(*arguments, device="meta")))


def added(module: nn.Module) -> dict[str, Any]:
    """Return the attributes that somebody set on a layer or a drop-in, by name.

    What was set on the inner layer of a drop-in counts as set on the drop-in, which goes first.
    """
    inner = weight_holder(module)
    found = {} if inner is module else added(inner)
    known = standard(type(module)) | {_ORIGIN}
    return found | {name: value for name, value in vars(module).items() if name not in known}


def weight_holder(module: nn.Module) -> nn.Module:
    """Return the module whose parameter the weight is: the inner one of a `PatchLinear`."""
    return module.linear if isinstance(module, PatchLinear) else module


def weight_of(module: nn.Module) -> nn.Parameter:
    """Return the parameter itself of a layer or a drop-in that has a plain one."""
    found = weight_holder(module)._parameters["weight"]  # noqa: SLF001
    if found is None:
        raise ValueError(f"the weight of this {type(module).__name__} is no parameter")
    return found


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


def inherit(new: nn.Parameter, old: nn.Parameter, move: Rearrangement) -> None:
    """Give a new parameter what was set on the old one, and its gradient in the new shape."""
    import torch

    vars(new).update(vars(old))
    if old.grad is not None:
        grad = old.grad.reshape(move.split).permute(move.axes).reshape(move.target)
        # autograd adds to a gradient in the parameter's own order of memory, and warns of another.
        same = grad.stride() == new.stride()
        new.grad = grad if same else torch.empty_like(new).copy_(grad)
