"""One input of a whole model as it is wanted, and the tensor that is made for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Generator, Tensor

FLOATS = ("float64", "float32", "bfloat16", "float16")
"""What models can be run in."""
DTYPES = (*FLOATS, "int64", "int32", "int16", "int8", "uint8", "bool")
"""What an input can be made of."""

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One input.

    Attributes:
        name: of the parameter of `forward`; empty for the positional one.
        shape: of the tensor.
        dtype: as torch names it; empty where the name or the model decides.
    """

    name: str
    shape: Shape
    dtype: str = ""

    def tensor(self, dtype: torch.dtype, limit: int, generator: Generator) -> Tensor:
        """Make it.

        Args:
            dtype: of the model, for floating numbers.
            limit: integers are drawn from those below it.
            generator: of random numbers.
        """
        import torch

        by_name = _BY_NAME.get(self.name)
        given = getattr(torch, self.dtype) if self.dtype else torch.int64 if by_name else dtype
        if given.is_floating_point:
            return torch.randn(self.shape, generator=generator, dtype=torch.float64).to(given)
        below = 2 if given == torch.bool else min(limit, torch.iinfo(given).max)
        return (by_name or _ids)(self.shape, below, generator).to(given)


def _ids(shape: Shape, limit: int, generator: Generator) -> Tensor:
    import torch

    return torch.randint(limit, shape, generator=generator)


def _ones(shape: Shape, _: int, __: Generator) -> Tensor:
    import torch

    return torch.ones(shape, dtype=torch.int64)


def _zeros(shape: Shape, _: int, __: Generator) -> Tensor:
    import torch

    return torch.zeros(shape, dtype=torch.int64)


def _places(shape: Shape, _: int, __: Generator) -> Tensor:
    import torch

    return torch.arange(shape[-1]).expand(shape).clone()


_BY_NAME: Mapping[str, Callable[[Shape, int, Generator], Tensor]] = {
    "input_ids": _ids,
    "decoder_input_ids": _ids,
    "attention_mask": _ones,
    "decoder_attention_mask": _ones,
    "pixel_attention_mask": _ones,
    "pixel_mask": _ones,
    "token_type_ids": _zeros,
    "position_ids": _places,
}
"""Parameters that hold integers in every model of transformers that has them: tokens, all of which
are to be seen, of one kind, in their order."""
