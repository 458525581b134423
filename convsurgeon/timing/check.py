"""That all forms compute the same function: asked of each before it is timed.

Weights are 1 and -1, inputs 1, -1 and 0, and so few inputs are not 0 that the magnitudes of the
products of one output add up to less than 256. Every partial sum is then an integer below 256,
which all floating-point types from bfloat16 upwards hold exactly: no order of summation, no
splitting and no narrower arithmetic of a device (TF32 for float32) rounds anything. The derived
bound on how far two forms may differ is 0.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from convsurgeon.errors import NotEquivalentError
from convsurgeon.timing.figures import MAP
from convsurgeon.timing.forms import as_tokens

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from convsurgeon.timing.subjects import Subject

_SEED = 20_261_122
_EXPECTED = 64
"""Inputs of one output that are not 0, on average where there are more: 24 standard deviations
below 256."""


def exact_values(subject: Subject, conv: nn.Module, x: Tensor) -> Tensor:
    """Fill a convolution and its input for the check; return the output `[B, O, *grid]`.

    Args:
        subject: the layer.
        conv: of which weight and bias are filled.
        x: `[B, C, *spatial]`, which is filled.

    Returns:
        In float32 on the CPU, by torch's own operator.
    """
    import torch
    from torch.nn import functional

    generator = torch.Generator().manual_seed(_SEED)
    products = prod(subject.weight_shape[1:])
    signs = {name: _signs(p.shape, generator) for name, p in conv.named_parameters()}
    kept = torch.rand(x.shape, generator=generator) < _EXPECTED / products
    inputs = _signs(x.shape, generator) * kept
    with torch.no_grad():
        for name, parameter in conv.named_parameters():
            parameter.copy_(signs[name])
        x.copy_(inputs)
        run = (functional.conv1d, functional.conv2d, functional.conv3d)[subject.geometry.ndim - 1]
        return run(inputs, signs["weight"], signs.get("bias"), stride=subject.geometry.stride)


def check(form: str, output: str, found: Tensor, expected: Tensor) -> None:
    """Compare what a form gave with what it should have given.

    Args:
        form: its name.
        output: `map` or `tokens`.
        found: in any dtype, on any device.
        expected: `[B, O, *grid]`, from `exact_values`.

    Raises:
        NotEquivalentError: CS086.
    """
    import torch

    wanted = expected if output == MAP else as_tokens(expected)
    given = found.detach().to("cpu", torch.float32)
    if given.shape != wanted.shape:
        text = f"{list(given.shape)} instead of {list(wanted.shape)}"
    elif torch.equal(given, wanted):
        return
    else:
        text = f"{int((given != wanted).sum())} of {wanted.numel()} outputs are wrong"
    raise NotEquivalentError("CS086", f"{form} does not compute what the conv computes: {text}")


def _signs(shape: torch.Size, generator: torch.Generator) -> Tensor:
    import torch

    return torch.randint(0, 2, shape, generator=generator).to(torch.float32) * 2 - 1
