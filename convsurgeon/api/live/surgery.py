"""`swap_module`: a model in memory in the other form.

Parameters and state dict are the very same after `kind="gemm"`. Otherwise each weight is a new
parameter, over the same memory where its order allows it, which an optimiser or a wrapper made
before does not know. Everything else about a layer stays: its training flag, dtype, device,
`requires_grad`, gradient, hooks (whose handles go on removing them), what was set on it, and what
it shares with others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from convsurgeon.api.choices import Request
from convsurgeon.api.live.channels import ROWS, Channels
from convsurgeon.api.live.undoing import check_module
from convsurgeon.errors import UsageError
from convsurgeon.plan import Plan
from convsurgeon.rearrangement import CHANNEL_FIRST, CHANNEL_LAST

if TYPE_CHECKING:
    from torch import nn

KINDS = ("linear", "gemm")


def swap_module(  # noqa: PLR0913 - what is to become of which layers; all but the first are options
    model: nn.Module,
    *,
    to: str = "linear",
    kind: str = "linear",
    where: Callable[[str, nn.Module], bool] | None = None,
    layout: str = CHANNEL_FIRST,
    method: str = "kernel",
    input_shape: Sequence[str] = (),
    channels_first: bool | str = False,
    max_channels: int | None = None,
    untie: bool = False,
) -> Plan:
    """Replace the layers of a live model by drop-ins that compute the same in the other form.

    All are built before the first is put in place: after an error the model is as it was. Hooks,
    gradients, flags and ties are kept. Unless `kind` is "gemm" the weights are new parameters:
    make optimisers, and wrap or shard the model, after the swap. `restore_module` undoes it.

    Args:
        model: any nn.Module.
        to: "linear" makes a `PatchLinear` or a `GemmConv` of each convolution that is one product;
            "conv" a `FlatConv` of each nn.Linear whose input's shape is known.
        kind: for `to="linear"`: "linear" holds a plain nn.Linear, "gemm" stays a convolution.
        where: asked with each layer's name and module before it is replaced; false leaves it.
        layout: see `Choices`; for `kind="linear"`.
        method: see `Choices`.
        input_shape: see `Choices`.
        channels_first: for `method="1x1"`, what each new layer takes and gives. False: rows
            `[..., C]`, as before. True: maps `[B, C, *positions]`, for models whose own code has
            the channels first. "memory": rows that are a view of such maps, for models whose code
            takes rows. Unless False, layer norms follow.
        max_channels: for `method="1x1"`, the most channels of one convolution: a Linear with more
            outputs becomes a `SplitConv`, one with more inputs stays (CS087).
        untie: whether a weight that something else uses too (an embedding, say) is copied; else
            such a layer stays (CS016).

    Returns:
        Every layer with its verdict; those with a rewrite are replaced.

    Raises:
        UsageError: CS090 for choices that cannot be understood or do not go together.
        ContradictionError: CS060 or CS061 where `input_shape` does not fit the model.
        ModelError: CS052 without torch.
    """
    _check(to, kind, layout)
    request = Request.of({"to": to, "layout": layout, "method": method, "input_shape": input_shape})
    channels = Channels.of(channels_first, max_channels, request.user.method)
    check_module(model, "swap_module")
    from convsurgeon.api.live.operations import OPERATIONS, Order, perform, pointwise

    operation = OPERATIONS[to, kind] if channels == ROWS else pointwise(channels)
    order = Order(request, operation, where or _everywhere, channels, untie)
    return Plan((perform(model, order),))


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
