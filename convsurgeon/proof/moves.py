"""Perturbations by one unit in the last place: what the yardstick of a whole model is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@dataclass(frozen=True, eq=False, slots=True)
class ModelInputs:
    """What both models are run on.

    Attributes:
        args: positional ones.
        kwargs: by the name of the parameter of `forward`.
    """

    args: tuple[Tensor, ...]
    kwargs: Mapping[str, Tensor]

    def fresh(self) -> ModelInputs:
        """Return a copy, which a model may write to."""
        kwargs = {name: one.clone() for name, one in self.kwargs.items()}
        return ModelInputs(tuple(one.clone() for one in self.args), kwargs)

    def moved(self, move: Move) -> ModelInputs:
        """Return these inputs with every floating number moved."""
        kwargs = {name: move.of(one) for name, one in self.kwargs.items()}
        return ModelInputs(tuple(move.of(one) for one in self.args), kwargs)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All of them."""
        return (*self.args, *self.kwargs.values())


class Move:
    """Moves floating numbers to one of their two neighbours in their dtype.

    Args:
        sign: 1 for up, -1 for down, 0 for a direction drawn for each number.
        seed: of the drawn directions.
    """

    def __init__(self, sign: int, seed: int) -> None:
        import torch

        self.sign = sign
        self._generator: torch.Generator = torch.Generator().manual_seed(seed)

    def of(self, tensor: Tensor) -> Tensor:
        """Return the tensor moved; one that holds no floating numbers as it is."""
        import torch

        if not tensor.is_floating_point():
            return tensor.clone()
        if self.sign:
            towards = torch.full_like(tensor, self.sign * float("inf"))
        else:
            coins = torch.rand(tensor.shape, generator=self._generator) < 0.5
            towards = torch.where(coins, float("inf"), float("-inf")).to(tensor)
        return torch.nextafter(tensor, towards)

    @contextmanager
    def of_embeddings(self, model: nn.Module, inputs: ModelInputs) -> Iterator[None]:
        """Move what `nn.Embedding` looks up too, where integers are given.

        A token cannot be moved by one unit in the last place; the vector that it stands for can.
        """
        from torch import nn

        def hook(_: nn.Module, __: Any, output: Any) -> Any:
            return self.of(output)

        asked = any(not one.is_floating_point() for one in inputs.tensors)
        tables = [m for m in model.modules() if asked and isinstance(m, nn.Embedding)]
        handles = [table.register_forward_hook(hook) for table in tables]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def moves(count: int, seed: int) -> Iterator[Move]:
    """Yield all up, all down, and random ones after that: `count` in all."""
    for number in range(count):
        yield Move((1, -1)[number] if number < 2 else 0, seed + number)
