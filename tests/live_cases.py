"""Small models for surgery in memory, and what is compared before and after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import convsurgeon as cs
from convsurgeon.plan import LayerPlan
from tests.nn_cases import bits

FORMS: dict[str, dict[str, Any]] = {
    "gemm": {"kind": "gemm"},
    "linear": {},
    "p1 p2 c": {"layout": "p1 p2 c"},
}
"""Every way from a conv to a linear layer."""
TO_CONV: dict[str, Any] = {"to": "conv", "method": "1x1"}
POINTWISE: dict[str, dict[str, Any]] = {
    "conv": TO_CONV,
    "memory": {**TO_CONV, "channels_first": "memory"},
    "parts": {**TO_CONV, "max_channels": 4},
}
"""Every way from a linear layer to convolutions of one position that take rows."""
MAPS: dict[str, Any] = {**TO_CONV, "channels_first": True}


class Net(nn.Module):
    """A patch embedding that has two names, a layer that overlaps, one of kernel 1, and a head."""

    def __init__(self, seed: int = 0, **factory: Any) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem: Any = nn.Sequential(nn.Identity(), nn.Conv2d(3, 8, (2, 4), (2, 4), **factory))
        self.proj: Any = self.stem[1]
        self.mix: Any = nn.Conv2d(8, 8, 3, padding=1, **factory)
        self.point: Any = nn.Conv2d(8, 6, 1, bias=False, **factory)
        self.head: Any = nn.Linear(6 * 2 * 2, 5, **factory)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.point(self.mix(self.proj(x))).flatten(1))
        return out


def pixels(seed: int = 1, dtype: torch.dtype = torch.float64, batch: int = 3) -> Tensor:
    """Images of a size that the kernel does not divide."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, 5, 11, dtype=dtype, generator=generator)


def net(**factory: Any) -> Any:
    """A model in float64, so that figures of two orders of summation lie close together."""
    return Net(**{"dtype": torch.float64, **factory})


def close(first: Tensor, second: Tensor) -> bool:
    """Compare what two float64 models of few small layers make of one input."""
    return torch.allclose(first, second, rtol=1e-12, atol=1e-13)


def rows(plan: cs.Plan) -> dict[str, LayerPlan]:
    """The layers of the only entry of a plan, by module."""
    (file,) = plan.files
    return {row.module: row for row in file.layers}


def refusal(model: nn.Module, name: str = "0", **options: Any) -> tuple[str | None, str]:
    """Swap a model of which one layer is refused; return why, after checking that it stays."""
    before = standing(model)
    row = rows(cs.swap_module(model, **options))[name]
    assert row.verdict.value == "refused"
    assert row.rewrite is None
    assert standing(model) == before
    return row.code, row.reason


def standing(model: nn.Module) -> list[tuple[object, ...]]:
    """Who stands where, with which parameters, buffers, hooks and attributes: all by identity."""
    found: list[tuple[object, ...]] = []
    for name, module in model.named_modules(remove_duplicate=False):
        held = [(key, id(value)) for key, value in vars(module).items() if key != "training"]
        tables = [
            (k, id(v)) for k in ("_parameters", "_buffers") for k, v in getattr(module, k).items()
        ]
        found.append((name, id(module), type(module), module.training, *held, *tables))
    return found


def contents(model: nn.Module) -> list[tuple[object, ...]]:
    """What a state dict holds in its order, bit by bit, with the order of memory."""
    state = model.state_dict()
    return [
        (k, t.dtype, tuple(t.shape), t.stride(), bits(t).flatten().tolist())
        for k, t in state.items()
    ]


def same_tree(first: nn.Module, second: nn.Module) -> bool:
    """Compare names, classes and settings of all modules, in their order."""
    one, other = ([(n, type(m)) for n, m in m_.named_modules()] for m_ in (first, second))
    return one == other and repr(first) == repr(second)


def counting(calls: list[str], name: str) -> Callable[..., None]:
    """A hook that notes that it was called."""

    def hook(*_: object, **__: object) -> None:
        calls.append(name)

    return hook
