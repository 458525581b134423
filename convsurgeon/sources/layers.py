"""A live module's layers -> form, geometry, and what stands against a rewrite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convsurgeon.geometry import LINEAR, Geometry, Refusal, conv_form

_CONV_RANKS = (3, 4, 5)
_MATRIX = 2


@dataclass(frozen=True, slots=True)
class Found:
    """What a module is.

    Attributes:
        form: what its weight is for.
        shape: of its weight; None where what is stored is not the weight.
        geometry: of a conv; None for a Linear, or where it is not that of a plain conv.
        refusal: why its weight must stay as it is.
    """

    form: str
    shape: tuple[int, ...] | None
    geometry: Geometry | None = None
    refusal: Refusal | None = None


def examine(torch: Any, model: Any) -> dict[str, Found]:
    """Return every layer of an nn.Module by its name, also where one has several names."""
    named = model.named_modules(remove_duplicate=False)
    found = {name: _look_at(torch.nn, module) for name, module in named}
    return {name: layer for name, layer in found.items() if layer}


def _look_at(nn: Any, module: Any) -> Found | None:
    form, exact = _form(nn, module)
    weight = module._parameters.get("weight")  # noqa: SLF001 (the attribute may be computed)
    if form is None:
        return _stranger(nn, module, weight)
    kind = type(module).__name__
    if nn.utils.parametrize.is_parametrized(module) or weight is None:
        text = f"the weight of this {kind} is computed from other tensors"
        return Found(form, None, refusal=Refusal("CS008", text))
    if isinstance(weight, nn.parameter.UninitializedParameter):
        return Found(form, None, refusal=Refusal("CS007", f"a {kind} without a shape yet"))
    shape = tuple(weight.shape)
    text = _doubt(module, exact=exact)
    if text:
        return Found(form, shape, refusal=Refusal("CS007", text))
    return Found(form, shape) if form == LINEAR else _conv(module, form, shape)


def _form(nn: Any, module: Any) -> tuple[str | None, bool]:
    """Return the form of a torch layer or of a subclass, and whether it is exactly that layer."""
    linears = (nn.Linear, nn.modules.linear.NonDynamicallyQuantizableLinear)
    if isinstance(module, nn.Linear):
        return LINEAR, type(module) in linears
    for axes in (1, 2, 3):
        for kind, form in (("Conv", "conv"), ("ConvTranspose", "conv_transpose")):
            layer = getattr(nn, f"{kind}{axes}d")
            if isinstance(module, layer):
                return f"{form}{axes}d", type(module) is layer
    return None, False


def _doubt(module: Any, *, exact: bool) -> str:
    """Say why a layer may compute something else than torch's own; empty where it does not."""
    kind = type(module).__name__
    if not exact:
        return f"a {kind}, which may compute something else than a torch layer"
    if {"forward", "_conv_forward"} & vars(module).keys():
        return f"the forward of this {kind} was replaced"
    if _hooked(module):
        return f"a hook on this {kind} may change what goes in or comes out"
    return ""


def _hooked(module: Any) -> bool:
    """Tell whether code that is not torch's own runs before or after the forward."""
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]  # noqa: SLF001
    owners = [getattr(hook, "__module__", None) or type(hook).__module__ for hook in hooks]
    return any(owner.partition(".")[0] != "torch" for owner in owners)


def _stranger(nn: Any, module: Any, weight: Any) -> Found | None:
    """Say of a weight of another module what it is not: its shape may look like a layer's."""
    if weight is None or isinstance(weight, nn.parameter.UninitializedParameter):
        return None
    shape, kind = tuple(weight.shape), type(module).__name__
    if len(shape) == _MATRIX:
        form = "embedding" if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) else "other"
        text = f"the matrix of a module of class {kind}, not of an nn.Linear"
        return Found(form, shape, refusal=Refusal("CS015", text))
    if len(shape) in _CONV_RANKS:
        text = f"the weight of a module of class {kind}, not of a torch convolution"
        return Found(conv_form(len(shape) - 2), shape, refusal=Refusal("CS007", text))
    return None


def _conv(module: Any, form: str, shape: tuple[int, ...]) -> Found:
    kernel, padding = tuple(module.kernel_size), module.padding
    if padding == "valid" or (padding == "same" and set(kernel) == {1}):
        padding = (0,) * len(kernel)
    if padding == "same":
        return Found(form, shape, refusal=Refusal("CS013", "padding 'same'"))
    if module.padding_mode != "zeros" and any(padding):
        text = f"padding mode {module.padding_mode!r}"
        return Found(form, shape, refusal=Refusal("CS013", text))
    sizes = (kernel, tuple(module.stride), tuple(padding), tuple(module.dilation))
    return Found(form, shape, Geometry(*sizes, module.groups))
