"""What the user asks for, apart from where the files are."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from convsurgeon.errors import UsageError
from convsurgeon.evidence import Level
from convsurgeon.rearrangement import CHANNEL_FIRST, LAYOUTS

TARGETS = ("linear", "conv")
KINDS = ("patchify", "pointwise")


@dataclass(frozen=True, slots=True)
class Wish:
    """The choices that a plan depends on.

    Attributes:
        to: `linear` or `conv`.
        layout: order in which patches are flattened on the Linear's side.
        layers: glob patterns of modules to rewrite; empty means all.
        exclude: glob patterns of modules to leave alone.
        only: `patchify` (kernel above 1) or `pointwise` (kernel 1); None means both.
        require: the weakest evidence to act on.
        child_keys: whether the Linear's side is named as the inner layer of a drop-in.
        explain: names or glob patterns of the layers of which a plan holds all that was weighed.

    Raises:
        UsageError: CS090 for an unknown value.
    """

    to: str = "linear"
    layout: str = CHANNEL_FIRST
    layers: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    only: str | None = None
    require: Level = Level.FINGERPRINT
    child_keys: bool = False
    explain: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the values that come as text."""
        allowed = (("--to", self.to, TARGETS), ("--layout", self.layout, LAYOUTS))
        for option, value, values in (*allowed, ("--only", self.only, (None, *KINDS))):
            if value not in values:
                names = ", ".join(repr(v) for v in values if v)
                raise UsageError("CS090", f"{value!r} is none of {names}", where=option)

    def left_out(self, module: str, kernel_positions: int) -> str | None:
        """Return why the user does not want this layer; None if it is wanted."""
        if self.layers and not any(fnmatchcase(module, pattern) for pattern in self.layers):
            return "not chosen by --layer"
        if any(fnmatchcase(module, pattern) for pattern in self.exclude):
            return "left out by --exclude"
        kind = "pointwise" if kernel_positions == 1 else "patchify"
        return f"left out by --only {self.only}" if self.only not in (None, kind) else None

    def explains(self, module: str, key: str) -> bool:
        """Tell whether a layer is to be explained; a pattern may name the module or its weight."""
        names = (module, key)
        return any(n == p or fnmatchcase(n, p) for p in self.explain for n in names)
