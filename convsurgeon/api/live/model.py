"""A live model as places that tensors of a file go to.

Imported by `load` alone, with torch at hand: `scan` and `swap` never come here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convsurgeon.errors import MismatchError
from convsurgeon.nn import PatchLinear, SplitConv

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, eq=False, slots=True)
class Slot:
    """One parameter or buffer, wherever it is used: tied ones are one slot.

    Attributes:
        tensor: as it is now.
        places: the modules that hold it, and under which attribute.
    """

    tensor: Tensor
    places: list[tuple[nn.Module, str]]


class LiveModel:
    """A model, and the modules that are to stand in it.

    The model itself is as it was.

    Attributes:
        model: the model.
        modules: by name; one that is used twice has two names.
        replaced: new modules, by the identity of those whose place they take.

    Raises:
        MismatchError: CS084 for a model whose state dict is not simply its parameters and buffers.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.modules = dict(model.named_modules(remove_duplicate=False))
        self.replaced: dict[int, nn.Module] = {}
        slots = self.slots()
        for name in sorted(set(model.state_dict()) ^ slots.keys()):
            message = f"the model's state dict has hooks, extra state or lazy layers: {name}"
            raise MismatchError("CS084", message)
        for name, slot in slots.items():
            if not _is_plain(slot.tensor):
                kind = type(slot.tensor).__name__
                message = f"{name} is a {kind}, not a plain tensor (quantised or sharded?)"
                raise MismatchError("CS084", message, hint="load first, then quantise or shard")
            if _expanded(slot.tensor):
                message = f"several elements of {name} are one in memory, so that none can be set"
                raise MismatchError("CS084", message, hint="give it memory of its own: clone() it")

    def slots(self) -> dict[str, Slot]:
        """Return what the state dict will hold, by name."""
        by_tensor: dict[int, Slot] = {}
        found = {}
        for path, module in self._walk():
            for attribute, tensor in stored_tensors(module):
                slot = by_tensor.setdefault(id(tensor), Slot(tensor, []))
                if (module, attribute) not in slot.places:
                    slot.places.append((module, attribute))
                found[f"{path}.{attribute}" if path else attribute] = slot
        return found

    def inner_names(self) -> dict[str, tuple[str, ...]]:
        """Return where a drop-in keeps what a file calls its weight and its bias.

        One name, inside of a `PatchLinear`, or those of a `SplitConv`'s parts in their order.
        """
        from torch import nn

        found: dict[str, tuple[str, ...]] = {}
        for path, module in self._walk():
            outer = f"{path}." if path else ""
            # An adapter or a quantiser in the inner layer's place has tensors of its own.
            if isinstance(module, PatchLinear) and type(module.linear) is nn.Linear:
                inner, has_bias = [f"{outer}linear"], module.linear.bias is not None
            elif isinstance(module, SplitConv):
                inner = [f"{outer}parts.{i}" for i in range(len(module.parts))]
                has_bias = module.bias is not None
            else:
                continue
            for name in ("weight", "bias") if has_bias else ("weight",):
                found[f"{outer}{name}"] = tuple(f"{one}.{name}" for one in inner)
        return found

    def names(self) -> set[str]:
        """Return every name under which a file may hold a tensor of the model."""
        return {*self.slots(), *self.inner_names()}

    def now(self, path: str) -> nn.Module | None:
        """Return the module that will stand under a name."""
        old = self.modules.get(path)
        return None if old is None else self.replaced.get(id(old), old)

    def materialised(self) -> None:
        """Take the drop-ins' empty records of dtype and device off the meta device as well."""
        import torch

        for _, module in self._walk():
            if isinstance(module, PatchLinear) and module.compute.is_meta:
                module.compute = torch.empty(0, dtype=module.compute.dtype, device="cpu")

    def lost(self) -> list[str]:
        """Return the buffers that no file holds and that have no memory either."""
        stored = {id(slot.tensor) for slot in self.slots().values()}
        buffers = self.model.named_buffers()
        return [n for n, b in buffers if b.is_meta and b.numel() and id(b) not in stored]

    def _walk(self) -> Iterator[tuple[str, nn.Module]]:
        for path, module in self.modules.items():
            new = self.replaced.get(id(module))
            if new is None:
                yield path, module
            else:
                yield from new.named_modules(prefix=path)


def stored_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield a module's own parameters and persistent buffers by their attributes."""
    passing = module._non_persistent_buffers_set  # noqa: SLF001 (torch offers no other way)
    for name, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
        yield name, parameter
    for name, buffer in module.named_buffers(recurse=False, remove_duplicate=False):
        if name not in passing:
            yield name, buffer


def _is_plain(tensor: Tensor) -> bool:
    import torch

    return type(tensor) in (torch.nn.Parameter, torch.Tensor) and not tensor.is_inference()


def _expanded(tensor: Tensor) -> bool:
    return any(
        not step and size > 1 for step, size in zip(tensor.stride(), tensor.shape, strict=True)
    )
