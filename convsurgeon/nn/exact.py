"""When a convolution or a linear layer may be replaced at all.

Everything that a replacement would silently change or drop is a reason to refuse: a geometry that
is no matrix product over patches, a subclass with a forward of its own, a weight that is computed
from other tensors, hooks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast

from torch import nn
from torch.nn.modules.conv import _ConvNd
from torch.nn.utils.parametrize import is_parametrized

from convsurgeon.geometry import along_axes

if TYPE_CHECKING:
    from collections.abc import Iterator

_Module = TypeVar("_Module", bound=nn.Module)
_Conv = TypeVar("_Conv", bound=_ConvNd)

# Left behind by torch.nn.utils.weight_norm, spectral_norm and prune: the weight is recomputed
# from these before each call, so a copy of it would go stale at the first training step.
_COMPUTED = tuple(
    f"{name}_{part}" for name in ("weight", "bias") for part in ("g", "v", "orig", "mask")
)


def refuse_unless_plain(module: nn.Module, expected: type[_Module]) -> _Module:
    """Return a module that is exactly torch's own layer with a stored weight; refuse any other.

    Raises:
        ValueError: naming the reason.
    """
    reason = next(_oddities(module, expected), None)
    if reason is not None:
        raise ValueError(f"cannot replace this {type(module).__name__}: {reason}")
    return cast("_Module", module)


def refuse_unless_exact(conv: nn.Module, expected: type[_Conv]) -> _Conv:
    """Return a convolution that is a matrix product over patches; refuse any other.

    Raises:
        ValueError: naming the reason.
    """
    plain = refuse_unless_plain(conv, expected)
    reason = inexact(plain)
    if reason is not None:
        raise ValueError(f"cannot replace this {type(conv).__name__}: {reason}")
    return plain


def inexact(conv: _ConvNd) -> str | None:
    """Say why a geometry is not that of patches side by side; None where it is.

    Such a convolution has a stride equal to its kernel, no padding, one group, and no dilation
    along any axis where the kernel is longer than 1. It is the definition of `rules.patchify`, said
    again on a module's own attributes: `GemmConv.forward` asks at every call, within a compiled
    graph, where values like `Geometry` cannot be built. The tests hold the two against each other.
    """
    kernel: Any = conv.kernel_size
    if not isinstance(kernel, tuple):  # torch reads the weight's shape instead
        return f"its kernel_size {kernel!r} is no tuple"
    axes = len(kernel)
    if along_axes(conv.stride, axes) != kernel:
        return f"stride {conv.stride} is not the kernel {kernel}"
    # A padding mode says what to pad with, hence nothing where the padding is 0.
    if _pads(conv, axes):
        return f"padding {conv.padding!r} is not 0 in mode {conv.padding_mode!r}"
    if any(d != 1 and k != 1 for d, k in zip(along_axes(conv.dilation, axes), kernel, strict=True)):
        return f"dilation {conv.dilation} is not 1"
    if conv.groups != 1:
        return f"{conv.groups} groups instead of 1"
    return None


def _pads(conv: _ConvNd, axes: int) -> bool:
    if conv.padding != "valid" and any(along_axes(conv.padding, axes)):  # "same" counts as true
        return True
    # Other modes pad by what was worked out when the layer was made, and read no later `padding`.
    return conv.padding_mode != "zeros" and any(conv._reversed_padding_repeated_twice)  # noqa: SLF001


def _oddities(module: nn.Module, expected: type[nn.Module]) -> Iterator[str]:
    """Say what makes a module differ from a plain layer of torch, the most telling thing first."""
    if is_parametrized(module):
        yield "it is parametrized; remove the parametrizations first"
    computed = [name for name in _COMPUTED if hasattr(module, name)]
    if computed:
        yield f"its weight is computed from {', '.join(computed)}; remove the norm or mask first"
    # Not isinstance: a subclass may standardise its weight, pad, or gate in its own forward.
    if type(module) is not expected:
        yield f"its type is not exactly {expected.__name__}"
    if "forward" in vars(module):
        yield "its forward was replaced on the instance (by an offloading library, for example)"
    if "_compiled_call_impl" in vars(module):
        yield "it was compiled by itself, and what was compiled calls this very module"
    # Not isinstance here either: a tensor subclass is quantised, packed or spread over devices.
    weight: Any = module.weight
    none_by_choice = weight is None and isinstance(module, nn.LayerNorm)
    if not none_by_choice and (type(weight) is not nn.Parameter or not weight.is_floating_point()):
        yield "its weight is not a plain floating-point parameter"
    hooks = [name for name, value in vars(module).items() if name.endswith("_hooks") and value]
    if hooks:
        yield f"it has {', '.join(hooks)}; remove them, replace it, then register them again"
