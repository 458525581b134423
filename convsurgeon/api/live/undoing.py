"""`restore_module`: plain layers in the place of drop-ins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convsurgeon.api.live.reported import ModuleReport
from convsurgeon.errors import UsageError
from convsurgeon.sources.model import need_torch

if TYPE_CHECKING:
    from torch import nn


def restore_module(model: nn.Module) -> ModuleReport:
    """Put plain layers back in the place of the drop-ins of a live model.

    Weights have their present values, bit for bit; a model that was only swapped is what it was,
    in the classes, settings, names and order of its modules. Everything that `swap_module` keeps
    is kept on the way back too. Drop-ins that `load` or a user's own code put there are restored
    as well. One that somebody else has changed stays, with the reason: merge an adapter first, say.
    After an error the model is as it was.

    Args:
        model: any nn.Module.

    Returns:
        What was put back, and what was not.

    Raises:
        UsageError: CS090 where it is no nn.Module.
        ModelError: CS052 without torch.
    """
    check_module(model, "restore_module")
    from convsurgeon.api.live.restorations import restore

    return restore(model)


def check_module(model: object, function: str) -> None:
    """Refuse what is no nn.Module.

    Raises:
        UsageError: CS090, naming the function that was called.
        ModelError: CS052 without torch.
    """
    if not isinstance(model, need_torch().nn.Module):
        raise UsageError("CS090", f"a {type(model).__name__} is no nn.Module", where=function)
