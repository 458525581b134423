"""A live module's layers -> form, geometry, and what stands against a rewrite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from convsurgeon.geometry import LINEAR, Geometry, Refusal, along_axes, conv_form

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


Doubt = Callable[[Any], str]
"""Says why a layer of torch may compute something else than its class does; empty if not."""


def reforwarded(module: Any) -> str:
    """Doubt a layer whose forward was replaced on the instance, as offloading libraries do."""
    if {"forward", "_conv_forward"} & vars(module).keys():
        return f"the forward of this {type(module).__name__} was replaced"
    return ""


def hooked(module: Any) -> str:
    """Doubt a layer with code before or after its forward that is not torch's own."""
    hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]  # noqa: SLF001
    owners = [getattr(hook, "__module__", None) or type(hook).__module__ for hook in hooks]
    if all(owner.partition(".")[0] == "torch" for owner in owners):
        return ""
    return f"a hook on this {type(module).__name__} may change what goes in or comes out"


def examine(
    torch: Any, model: Any, doubts: tuple[Doubt, ...] = (reforwarded, hooked)
) -> dict[str, Found]:
    """Return every layer of an nn.Module by its name, also where one has several names.

    Args:
        torch: the library.
        model: an nn.Module.
        doubts: those under which a layer is refused; a file carries no hooks, a live model may.
    """
    named = model.named_modules(remove_duplicate=False)
    found = {name: _look_at(torch.nn, module, doubts) for name, module in named}
    return {name: layer for name, layer in found.items() if layer}


def _look_at(nn: Any, module: Any, doubts: tuple[Doubt, ...]) -> Found | None:
    form, exact = _form(nn, module)
    # Not the attribute, which may be computed; TorchScript's tables know no `get`.
    weight = dict(module._parameters.items()).get("weight")  # noqa: SLF001
    if form is None:
        buffer = dict(module._buffers.items()).get("weight")  # noqa: SLF001
        return _stranger(nn, module, buffer if weight is None else weight)
    kind = type(module).__name__
    if nn.utils.parametrize.is_parametrized(module) or weight is None:
        text = f"the weight of this {kind} is computed from other tensors"
        return Found(form, None, refusal=Refusal("CS008", text))
    if isinstance(weight, nn.parameter.UninitializedParameter):
        return Found(form, None, refusal=Refusal("CS007", f"a {kind} without a shape yet"))
    shape = tuple(weight.shape)
    if not exact:
        text = f"a {kind}, which may compute something else than a torch layer"
        return Found(form, shape, refusal=Refusal("CS007", text))
    text = next((text for doubt in doubts if (text := doubt(module))), "")
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
    axes, padding = len(shape) - 2, module.padding
    kernel = along_axes(module.kernel_size, axes)
    if padding == "valid" or (padding == "same" and set(kernel) == {1}):
        padding = 0
    if padding == "same":
        return Found(form, shape, refusal=Refusal("CS013", "padding 'same'"))
    padding = along_axes(padding, axes)
    # What other modes pad by was worked out when the layer was made: a later `padding` is not read.
    beyond = module.padding_mode != "zeros" and (
        *padding,
        *module._reversed_padding_repeated_twice,  # noqa: SLF001 (torch shows it nowhere)
    )
    if beyond and any(beyond):
        text = f"padding mode {module.padding_mode!r}"
        return Found(form, shape, refusal=Refusal("CS013", text))
    sizes = (kernel, along_axes(module.stride, axes), padding, along_axes(module.dilation, axes))
    return Found(form, shape, Geometry(*sizes, module.groups))
