"""`swap_module`: a model in memory in the other form.

Parameters and state dict are the very same after `kind="gemm"`. Otherwise each weight is a new
parameter, over the same memory where its order allows it, which an optimiser or a wrapper made
before does not know. Everything else about a layer stays: its training flag, dtype, device,
`requires_grad`, gradient, hooks (whose handles go on removing them), what was set on it, and what
it shares with others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Unpack, cast

from convsurgeon.api.choices import Choices, Request, check_known
from convsurgeon.api.fully import check_images
from convsurgeon.api.live.channels import Channels, ToConv
from convsurgeon.api.live.undoing import check_module
from convsurgeon.errors import UsageError
from convsurgeon.plan import Plan
from convsurgeon.rearrangement import CHANNEL_FIRST, CHANNEL_LAST

if TYPE_CHECKING:
    from torch import nn

    from convsurgeon.sources.model import ModelSpeaker

KINDS = ("linear", "gemm")


def swap_module(
    model: nn.Module,
    *,
    to: str = "linear",
    kind: str = "linear",
    where: Callable[[str, nn.Module], bool] | None = None,
    layout: str = CHANNEL_FIRST,
    **of_conv: Unpack[ToConv],
) -> Plan:
    """Replace the layers of a live model by drop-ins that compute the same in the other form.

    After an error the model is as it was. Hooks, gradients, flags and ties are kept. Unless `kind`
    is "gemm" weights are new parameters: wrap it after that. `restore_module` undoes it.

    Args:
        model: any nn.Module.
        to: "linear" makes a `PatchLinear` or a `GemmConv` of each convolution that is one product;
            "conv" a `FlatConv` of each nn.Linear whose input's shape is known.
        kind: for `to="linear"`: "linear" holds a plain nn.Linear, "gemm" stays a convolution.
        where: asked with each name and module; false leaves it.
        layout: see `Choices`; for `kind="linear"`.
        **of_conv: see `ToConv`.

    Returns:
        Every layer with its verdict; those with a rewrite are replaced.

    Raises:
        UsageError: CS090 for choices that cannot be understood or do not go together.
        ContradictionError: CS060 or CS061 where `input_shape` does not fit the model.
        ModelError: CS052 without torch.
    """
    _check(to, kind, layout)
    check_known(of_conv, ToConv)
    request = Request.of(_for_all_layers(to, layout, of_conv))
    channels = Channels.of(of_conv, request.user.method)
    check_module(model, "swap_module")
    from convsurgeon.api.live.operations import Order, perform

    hear = _hearing(model, to, of_conv)
    return Plan((perform(model, Order(request, kind, asked_of(where), channels, hear)),))


def _hearing(
    model: nn.Module, to: str, of_conv: ToConv
) -> Callable[[ModelSpeaker], ModelSpeaker] | None:
    """Return what adds the inputs of Linears to what a model says; None without an example."""
    example = of_conv.get("example_input")
    if example is None:
        return None
    if to != "conv":
        raise UsageError("CS090", "it goes with to='conv'", where="example_input")
    check_images(example)
    from convsurgeon.dense.evidence import with_splits
    from convsurgeon.dense.read import read

    return partial(with_splits, reading=read(model, example.shape, example.dtype), only=False)


def _for_all_layers(to: str, layout: str, of_conv: ToConv) -> Choices:
    """Return what `Request` takes: the keywords that files have too."""
    known = Choices.__annotations__.keys() - {"example_input"}  # a shape there, images here
    shared = {name: value for name, value in of_conv.items() if name in known}
    return cast("Choices", {"to": to, "layout": layout, **shared})


def asked_of(where: object) -> Callable[[str, nn.Module], bool]:
    """Return what is asked of each layer.

    Raises:
        UsageError: CS090 where that is no function.
    """
    if where is None:
        return _everywhere
    if not callable(where):
        hint = "write where=lambda name, module: ..."
        raise UsageError("CS090", f"{where!r} is no function", where="where", hint=hint)
    return cast("Callable[[str, nn.Module], bool]", where)


def _everywhere(_name: str, _module: nn.Module) -> bool:
    return True


def _check(to: str, kind: str, layout: str) -> None:
    """Check what goes together; `Request` checks each value of `to` and `layout` by itself."""
    if kind not in KINDS:
        raise UsageError("CS090", f"{kind!r} is none of 'linear', 'gemm'", where="kind")
    if kind == "gemm" and to == "conv":
        raise UsageError("CS090", "'gemm' goes with to='linear'", where="kind")
    # A gemm keeps the convolution's weight, and a flat convolution takes rows as torch flattens.
    if layout == CHANNEL_LAST and (to, kind) != ("linear", "linear"):
        text = f"{layout!r} goes with to='linear', kind='linear'"
        raise UsageError("CS090", text, where="layout")
