"""One forward of a model, and every tensor that it computes on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from convsurgeon.proof.leaves import leaves

if TYPE_CHECKING:
    from torch import Tensor, nn

    from convsurgeon.proof.moves import ModelInputs


class Place(NamedTuple):
    """Where a tensor comes from.

    Attributes:
        module: its name; empty for the whole model.
        call: how often the module had been called before.
        leaf: its name within what the module returned.
    """

    module: str
    call: int
    leaf: str


See = Callable[[Place, "Tensor"], None]


def common_layers(original: Iterable[str], swapped: Iterable[str]) -> tuple[str, ...]:
    """Return the modules to watch: those of both models that have nothing below them in one.

    A drop-in stands under the name of the layer that it replaced. What is inside it has no partner.

    Args:
        original: names of all modules of one model.
        swapped: of the other.
    """
    first, second = set(original), set(swapped)
    inner = [{name.rpartition(".")[0] for name in names} for names in (first, second)]
    ends = {name for name in first & second if name and not all(name in i for i in inner)}
    return tuple(sorted(name for name in ends if not ends & set(_above(name))))


def _above(name: str) -> Iterable[str]:
    parts = name.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts)))


def forward(
    model: nn.Module, inputs: ModelInputs, layers: Iterable[str], seed: int, see: See
) -> dict[str, str]:
    """Run a model once, and show every tensor that its layers and itself return.

    Global random numbers are seeded before, and set back to where they were after.

    Args:
        model: in eval mode.
        inputs: copied before, since a model may write to them.
        layers: names of the modules to watch.
        seed: of what the model draws.
        see: called at once with each tensor; the model may write to it later.

    Returns:
        What was returned and is no tensor: its name, and its type.
    """
    import torch

    calls, others = Counter[str](), dict[str, str]()

    def show(name: str, _: Any, given: tuple[Any, ...], output: Any) -> None:
        call = calls[name]
        calls[name] += 1
        for leaf, value in leaves(output):
            if not isinstance(value, torch.Tensor):
                others.update({} if name else {leaf: type(value).__name__})
            elif not any(value is one for one in given):  # an Identity computes nothing
                see(Place(name, call, leaf), value)

    fresh = inputs.fresh()
    with ExitStack() as stack:
        for name in layers:
            handle = model.get_submodule(name).register_forward_hook(partial(show, name))
            stack.callback(handle.remove)
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.random.fork_rng(devices=[]))
        torch.default_generator.manual_seed(seed)
        show("", None, (), model(*fresh.args, **fresh.kwargs))
    return others
