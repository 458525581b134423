"""Which values of a loaded model come from its file, found without asking the library.

The file is loaded twice: once as it is, and once with zeros in place of all its data, under the
same names, shapes and dtypes. What comes from the file is zero in the second load, or at least not
what it is in the first. An element that is the same in both and is not zero came from elsewhere: it
was drawn at random, is a constant of the code, or memory that nobody wrote. So that both loads
agree in such elements, they draw the same random numbers, and unwritten memory is NaN.

An element that somebody sets to zero is not found this way; the library's own account names it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from convsurgeon.sources.model import need_torch

if TYPE_CHECKING:
    from torch import Tensor, nn


@contextmanager
def repeatable() -> Iterator[None]:
    """Let every load draw the same random numbers, and find the same in unwritten memory.

    The caller's random numbers stay what they are. Deterministic mode is what fills new memory
    with NaN (`torch.utils.deterministic.fill_uninitialized_memory`).
    """
    torch = need_torch()
    mode = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("warn")
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            yield
    finally:
        torch.set_deterministic_debug_mode(mode)


def left_over(model: nn.Module) -> dict[str, Tensor]:
    """Return, of a model loaded from zeros, what is not zero: floating parameters and buffers.

    Integers are counters and tables of indices, which code computes and nobody trains.
    """
    return {n: t for n, t in _floating(model) if t.is_meta or int(t.count_nonzero())}


def made_up(model: nn.Module, left: Mapping[str, Tensor]) -> tuple[str, ...]:
    """Return the names of what does not come from the file, or not all of it.

    Args:
        model: loaded from the file as it is.
        left: `left_over` of the same loaded from zeros.
    """
    names = []
    for name, tensor in _floating(model):
        if name in left and (tensor.is_meta or _agrees(tensor, left[name])):
            names.append(name)
    return tuple(names)


def _floating(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    seen: set[int] = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        # Tied weights are one tensor under several names; extra state need not be a tensor.
        if not hasattr(tensor, "is_floating_point") or id(tensor) in seen:
            continue
        seen.add(id(tensor))
        if tensor.is_floating_point() or tensor.is_complex():
            # Eight-bit floats can be neither counted nor compared.
            yield name, tensor.detach().float() if tensor.itemsize == 1 else tensor.detach()


def _agrees(tensor: Tensor, left: Tensor) -> bool:
    """Tell whether an element other than zero is the same in both."""
    same = (tensor == left) | (tensor.isnan() & left.isnan())
    return bool((same & (left != 0)).any())
