"""What `restore_module` returns."""

from __future__ import annotations

from dataclasses import dataclass

from convsurgeon.api.live.loading import ReplacedModule
from convsurgeon.untrusted import safe


@dataclass(frozen=True, slots=True)
class RefusedModule:
    """A drop-in that stays.

    Attributes:
        module: its name in the model.
        kind: its class.
        code: of the refusal.
        reason: one clause.
    """

    module: str
    kind: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class ModuleReport:
    """What `restore_module` did to a model; a module of two names has two rows.

    Attributes:
        restored: the drop-ins in whose place plain layers stand now.
        refused: those that stay, each with its reason.
    """

    restored: tuple[ReplacedModule, ...]
    refused: tuple[RefusedModule, ...] = ()

    def __str__(self) -> str:
        """Return a line for each drop-in."""
        done = (f"{r.module}: {r.before} -> {r.after}" for r in self.restored)
        stay = (
            f"{r.module or '(root)'}: {r.kind} stays, {r.reason} [{r.code}]" for r in self.refused
        )
        return "\n".join(map(safe, (*done, *stay)))
