"""The forms of one layer as modules, built from one convolution, each with the input it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convsurgeon.timing.figures import CHANNELS_LAST, CONV, GEMM, LINEAR, MAP, PRODUCT, TOKENS

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from convsurgeon.timing.subjects import Subject

Run = Callable[["Tensor"], "Tensor"]
_SEED = 20_261_122


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """One form of a layer.

    Attributes:
        name: one of the five.
        module: what computes it; its parameters are those whose gradients are taken.
        x: its input: `[B, C, *spatial]`; for the bare product `[B, prod(grid), C * prod(kernel)]`.
        outputs: each way to consume the output -> what to do with it.
    """

    name: str
    module: nn.Module
    x: Tensor
    outputs: Mapping[str, Run]


class Missing(Exception):  # noqa: N818 - nothing is wrong
    """A form does not exist for a layer; its text says why."""


def make_conv(subject: Subject, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Return the original: torch's own convolution; its parameters are not initialised.

    Nothing of the global random numbers is used.
    """
    from torch import nn

    shape, geometry = subject.weight_shape, subject.geometry
    kind: Any = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[geometry.ndim - 1]
    skip_init: Any = nn.utils.skip_init
    conv: nn.Module = skip_init(
        kind,
        shape[1],
        shape[0],
        geometry.kernel,
        stride=geometry.stride,
        dilation=geometry.dilation,
        bias=subject.bias,
        device=device,
        dtype=dtype,
    )
    return conv


def as_tokens(y: Tensor) -> Tensor:
    """Return a map `[B, O, *grid]` as `[B, prod(grid), O]`, contiguous as a product wants it."""
    return y.flatten(2).transpose(1, 2).contiguous()


def _as_it_is(y: Tensor) -> Tensor:
    return y


def normal(x: Tensor) -> Tensor:
    """Fill a tensor with normally distributed values, as timings want them; return it.

    What a device takes for a product depends a little on how many bits flip: zeros are faster.
    """
    import torch

    generator = torch.Generator().manual_seed(_SEED)
    with torch.no_grad():
        return x.copy_(torch.randn(x.shape, generator=generator))


_BOTH: Mapping[str, Run] = {MAP: _as_it_is, TOKENS: as_tokens}


def _conv(conv: nn.Module, x: Tensor) -> Form:
    return Form(CONV, conv, x, _BOTH)


def _channels_last(conv: nn.Module, x: Tensor) -> Form:
    from copy import deepcopy

    import torch

    orders = {4: torch.channels_last, 5: torch.channels_last_3d}
    order = orders.get(x.dim())
    if order is None:
        raise Missing("torch has no channels-last memory for one axis")
    copy: Any = deepcopy(conv)
    return Form(CHANNELS_LAST, copy.to(memory_format=order), x.to(memory_format=order), _BOTH)


def _gemm(conv: nn.Module, x: Tensor) -> Form:
    from convsurgeon.nn import GemmConv1d, GemmConv2d, GemmConv3d

    kind = (GemmConv1d, GemmConv2d, GemmConv3d)[x.dim() - 3]
    return Form(GEMM, kind.from_conv(conv), x, _BOTH)


def _linear(conv: nn.Module, x: Tensor) -> Form:
    from convsurgeon.nn import PatchLinear

    return Form(LINEAR, PatchLinear.from_conv(conv), x, _BOTH)


def _product(conv: nn.Module, x: Tensor) -> Form:
    from convsurgeon.nn import PatchLinear, patchify

    inner = PatchLinear.from_conv(conv)
    patches = patchify(x, inner.kernel_size).flatten(1, -2).contiguous()
    return Form(PRODUCT, inner.linear, patches, {TOKENS: _as_it_is})


FORMS: Mapping[str, Callable[[nn.Module, Tensor], Form]] = {
    CONV: _conv,
    CHANNELS_LAST: _channels_last,
    GEMM: _gemm,
    LINEAR: _linear,
    PRODUCT: _product,
}
"""Each form, from the original with its values and its contiguous input, in the report's order.

They raise `Missing` where a layer has no such form.
"""
