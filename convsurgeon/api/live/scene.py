"""Where the layers of a model stand: who has them as children, who reads or holds them otherwise.

Imported by `swap_module` and `restore_module` alone, with torch at hand.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

from convsurgeon.api.live.inside import modules_in, parameters_in
from convsurgeon.api.live.reading import UNNAMED, weights_read

if TYPE_CHECKING:
    from torch import nn

# Where no model has asked for such a library, no object of it can exist: nothing is imported here.
_COMPILED = ("torch._dynamo.eval_frame", "OptimizedModule")
_REPLICATED = ("torch.nn.parallel.distributed", "DistributedDataParallel")
_SHARDED = ("torch.distributed.fsdp", "FullyShardedDataParallel")


@dataclass(frozen=True, eq=False)
class Scene:
    """A model as its layers' surroundings.

    Attributes:
        model: the model.
    """

    model: nn.Module

    @cached_property
    def parents(self) -> Mapping[int, list[nn.Module]]:
        """The modules that have a module as a child, by its identity."""
        found = defaultdict(list)
        for parent in self.model.modules():
            for child in parent.children():
                found[id(child)].append(parent)
        return found

    @cached_property
    def holders(self) -> Mapping[int, list[nn.Module]]:
        """The modules that hold a parameter, by its identity; also those that hold it aside."""
        found = defaultdict(list)
        for module in self.model.modules():
            held = [
                module.parameters(recurse=False),
                *(parameters_in(v) for _, v in _attributes(module)),
            ]
            for parameter in chain.from_iterable(held):
                found[id(parameter)].append(module)
        return found

    @cached_property
    def readers(self) -> Mapping[int, str]:
        """The name of a class whose forward reads a module's weight, by the module's identity."""
        found = {}
        kinds = {type(module) for module in self.model.modules()}
        read = {kind: weights_read(kind) for kind in kinds}
        for module in self.model.modules():
            for path in filter(None, read[type(module)]):
                found.update({id(c): type(module).__name__ for c in _meant(module, path)})
        return found

    @cached_property
    def aside(self) -> Mapping[int, str]:
        """Where a module stands that is no child there, by its identity: `Class.attribute`."""
        found = {}
        for module in self.model.modules():
            for name, value in _attributes(module):
                place = f"{type(module).__name__}.{name}"
                # A method bound to the layer itself, as torchao's `extra_repr`, goes where it goes.
                others = (held for held in modules_in(value) if held is not module)
                found.update({id(held): place for held in others})
        return found

    @cached_property
    def compiled(self) -> frozenset[int]:
        """The identities of the modules that torch.compile was called with."""
        return frozenset(id(c) for m in self._instances(_COMPILED) for c in m.children())

    @cached_property
    def replicated(self) -> frozenset[int]:
        """The identities of the modules inside of DistributedDataParallel."""
        return frozenset(id(c) for m in self._instances(_REPLICATED) for c in m.modules())

    @cached_property
    def sharded(self) -> frozenset[int]:
        """The identities of the modules inside of FullyShardedDataParallel."""
        return frozenset(id(c) for m in self._instances(_SHARDED) for c in m.modules())

    def _instances(self, name: tuple[str, str]) -> Iterator[nn.Module]:
        kind = getattr(sys.modules.get(name[0]), name[1], None)
        return (m for m in self.model.modules() if kind is not None and isinstance(m, kind))


def _meant(module: nn.Module, path: str) -> Iterator[nn.Module]:
    """Yield what a forward may mean by a path: by `UNNAMED` all that it reaches without a name."""
    first, _, rest = path.partition(".")
    bases, below = (_unnamed(module), rest) if first == UNNAMED else ([module], path)
    for base in bases:
        try:
            yield base.get_submodule(below)
        except AttributeError:
            continue  # a module that is built with some options only, or another base


def _unnamed(module: nn.Module) -> Iterator[nn.Module]:
    from torch import nn

    for child in module.children():
        yield child
        if isinstance(child, (nn.Sequential, nn.ModuleList, nn.ModuleDict)):
            yield from _unnamed(child)


def _attributes(module: nn.Module) -> Iterator[tuple[str, object]]:
    """Yield what a module holds beside its own tables.

    What a hook knows is asked elsewhere; its module is handed to it.
    """
    for name, value in vars(module).items():
        if name not in {"_modules", "_parameters", "_buffers"} and "hook" not in name:
            yield name, value
