"""Under which names and in which shapes drop-ins hold what the layers they stand for hold.

Imported with torch at hand alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convsurgeon.errors import MismatchError, UsageError
from convsurgeon.nn import FlatConv1d, FlatConv2d, FlatConv3d, PatchLinear, SplitConv
from convsurgeon.rearrangement import CHANNEL_FIRST, Rearrangement, flatten_patches
from convsurgeon.sources.model import need_torch
from convsurgeon.tree import CHILD

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Held:
    """One tensor of a plain layer, in its drop-in.

    Attributes:
        outer: its name in the layer: `weight` or `bias`.
        inner: its names in the drop-in, in the order of the rows.
        move: from the layer's shape to the drop-in's, its parts joined; None where it stays.
        rows: of each part; empty where there is one.
    """

    outer: str
    inner: tuple[str, ...]
    move: Rearrangement | None = None
    rows: tuple[int, ...] = ()


def held_by(module: nn.Module) -> tuple[Held, ...]:
    """Return what a drop-in holds otherwise than its layer did; nothing for every other module.

    A bias is listed whether there is one or not.

    Raises:
        MismatchError: CS027 for a `PatchLinear` whose inner layer an adapter or a quantiser took.
    """
    from torch import nn

    if isinstance(module, PatchLinear):
        if type(module.linear) is not nn.Linear:
            kind = type(module.linear).__name__
            text = f"the inner layer of a PatchLinear is a {kind}, no plain nn.Linear"
            hint = "merge the adapter, or dequantise, first"
            raise MismatchError("CS027", text, hint=hint)
        conv = (module.out_channels, module.in_channels, *module.kernel_size)
        move = flatten_patches(conv, module.layout)
        return Held("weight", (f"{CHILD}.weight",), move), Held("bias", (f"{CHILD}.bias",))
    if isinstance(module, (FlatConv1d, FlatConv2d, FlatConv3d)):
        conv = (module.out_channels, module.in_channels, *module.kernel_size)
        return (Held("weight", ("weight",), flatten_patches(conv, CHANNEL_FIRST).inverse()),)
    if isinstance(module, SplitConv):
        conv = (module.out_channels, module.in_channels, *((1,) * module.axes))
        rows = tuple(part.out_channels for part in module.convs)
        parts = [f"parts.{number}" for number in range(len(rows))]
        move = flatten_patches(conv, CHANNEL_FIRST).inverse()
        weights, biases = (tuple(f"{p}.{name}" for p in parts) for name in ("weight", "bias"))
        return Held("weight", weights, move, rows), Held("bias", biases, None, rows)
    return ()


def places(model: nn.Module, *, strict: bool = True) -> Iterator[tuple[str, Held]]:
    """Yield each module's name with its last dot, and what it holds otherwise.

    Args:
        model: the model.
        strict: whether a layer that an adapter took is an error; else it is left out.

    Raises:
        MismatchError: CS027, see `held_by`.
    """
    for path, module in model.named_modules(remove_duplicate=False):
        try:
            for held in held_by(module):
                yield (f"{path}." if path else ""), held
        except MismatchError as error:
            if strict:
                raise error.at(path) from None


def original_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Return a model's state dict as it would be without drop-ins: what the original class loads.

    Names and shapes are those of the plain layers, also where `swap_module` or `load` has put
    others in their place; the order is the model's. Tensors share memory with the model's
    where their order allows it.

    Args:
        model: any nn.Module.

    Raises:
        UsageError: CS090 where it is no nn.Module.
        MismatchError: CS027 where an adapter or a quantiser took the inner layer of a drop-in;
            CS084 where a hook on the state dict renames what a drop-in holds.
    """
    if not isinstance(model, need_torch().nn.Module):
        text = f"a {type(model).__name__} is no nn.Module"
        raise UsageError("CS090", text, where="original_state_dict")
    state: Any = model.state_dict()
    firsts: dict[str, tuple[str, Held]] = {}
    later: set[str] = set()
    for stem, held in places(model):
        first, *rest = (stem + name for name in held.inner)
        if first in state:
            firsts[first] = (stem, held)
            later.update(rest)
        elif held.outer == "weight":
            _check_left_out(model, state, first)
    found = _Versioned()
    # Of which version each module is: without it some take what they get for that of the first.
    found._metadata = getattr(state, "_metadata", None)  # noqa: SLF001 (as torch does it)
    for name, tensor in state.items():
        if name in firsts:
            stem, held = firsts[name]
            found[stem + held.outer] = _plain([state[stem + one] for one in held.inner], held)
        elif name not in later:
            found[name] = tensor
    return found


def _check_left_out(model: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    """Refuse a state dict in which a weight may be under a name that nobody knows."""
    own = {
        n
        for each in (model.named_parameters, model.named_buffers)
        for n, _ in each(remove_duplicate=False)
    }
    strange = next((n for n in state.keys() - own if not n.endswith("_extra_state")), None)
    if strange is not None:
        text = f"its state dict has no {name}, but {strange}: a hook renames tensors"
        raise MismatchError("CS084", text, hint="convsurgeon.restore_module(model) first")


class _Versioned(OrderedDict[str, "Tensor"]):
    _metadata: Any


def _plain(parts: list[Tensor], held: Held) -> Tensor:
    import torch

    whole = parts[0] if len(parts) == 1 else torch.cat(parts)
    if held.move is None:
        return whole
    back = held.move.inverse()
    return whole.reshape(back.split).permute(back.axes).reshape(back.target)
