"""Rewrite convolutions into equivalent linear layers, and back, in checkpoints and live models.

    import convsurgeon as cs

    plan    = cs.scan("model.safetensors")                      # no tensor is read
    report  = cs.swap("model.safetensors", "out.safetensors")   # rewritten, proved, published
    verdict = cs.verify("model.safetensors", "out.safetensors") # verdict.equivalent
    cs.restore("out.safetensors", "again.safetensors")          # byte-identical to the original
    cs.load(model, "out.safetensors")                           # swap the layers, load strictly

Importing the package imports neither torch nor rich: each name is looked up when it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from convsurgeon.version import __version__

if TYPE_CHECKING:
    from convsurgeon.api.live.loading import LoadReport, load
    from convsurgeon.api.restoring import restore
    from convsurgeon.api.scanning import scan
    from convsurgeon.api.swapping import swap
    from convsurgeon.api.verifying import verify
    from convsurgeon.errors import ConvsurgeonError
    from convsurgeon.plan import Plan
    from convsurgeon.proof import Verdict
    from convsurgeon.results import RestoreReport, SwapReport

_HOMES = {
    "ConvsurgeonError": "convsurgeon.errors",
    "LoadReport": "convsurgeon.api.live.loading",
    "Plan": "convsurgeon.plan",
    "RestoreReport": "convsurgeon.results",
    "SwapReport": "convsurgeon.results",
    "Verdict": "convsurgeon.proof",
    "load": "convsurgeon.api.live.loading",
    "restore": "convsurgeon.api.restoring",
    "scan": "convsurgeon.api.scanning",
    "swap": "convsurgeon.api.swapping",
    "verify": "convsurgeon.api.verifying",
}

__all__ = [
    "ConvsurgeonError",
    "LoadReport",
    "Plan",
    "RestoreReport",
    "SwapReport",
    "Verdict",
    "__version__",
    "load",
    "restore",
    "scan",
    "swap",
    "verify",
]


def __getattr__(name: str) -> object:
    """Import a public name on first use (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
