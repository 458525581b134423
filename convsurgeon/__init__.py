"""Rewrite convolutions into equivalent linear layers, and back, in checkpoints and live models.

    import convsurgeon as cs

    plan    = cs.scan("model.safetensors")                      # no tensor is read
    report  = cs.swap("model.safetensors", "out.safetensors")   # rewritten, proved, published
    verdict = cs.verify("model.safetensors", "out.safetensors") # verdict.equivalent
    cs.restore("out.safetensors", "again.safetensors")          # byte-identical to the original
    cs.load(model, "out.safetensors")                           # swap the layers, load strictly
    plan    = cs.swap_module(model)                             # the layers of a model in memory
    cs.restore_module(model)                                    # the original layers again
    model   = cs.from_pretrained(ViTModel, "vit")               # transformers, diffusers: swapped
    cs.save_pretrained(model, "out")                            # what the original class reads
    figures = cs.bench("model.safetensors")                     # both forms timed here, with advice
    report  = cs.fully_convolutional(model, images)             # a classifier for larger images

Importing the package imports neither torch nor rich: each name is looked up when it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from convsurgeon.version import __version__

if TYPE_CHECKING:
    from convsurgeon.api.benching import bench
    from convsurgeon.api.fully import fully_convolutional
    from convsurgeon.api.live.loading import LoadReport, load
    from convsurgeon.api.live.pretrained import from_pretrained
    from convsurgeon.api.live.reported import ModuleReport
    from convsurgeon.api.live.saved import save_pretrained
    from convsurgeon.api.live.surgery import swap_module
    from convsurgeon.api.live.undoing import restore_module
    from convsurgeon.api.restoring import restore
    from convsurgeon.api.scanning import scan
    from convsurgeon.api.swapping import swap
    from convsurgeon.api.verifying import verify
    from convsurgeon.errors import ConvsurgeonError
    from convsurgeon.integrations.drop_ins import original_state_dict
    from convsurgeon.plan import Plan
    from convsurgeon.proof import Verdict
    from convsurgeon.results import DenseReport, RestoreReport, SwapReport
    from convsurgeon.timing import BenchReport

_HOMES = {
    "BenchReport": "convsurgeon.timing",
    "ConvsurgeonError": "convsurgeon.errors",
    "DenseReport": "convsurgeon.results",
    "LoadReport": "convsurgeon.api.live.loading",
    "ModuleReport": "convsurgeon.api.live.reported",
    "Plan": "convsurgeon.plan",
    "RestoreReport": "convsurgeon.results",
    "SwapReport": "convsurgeon.results",
    "Verdict": "convsurgeon.proof",
    "bench": "convsurgeon.api.benching",
    "from_pretrained": "convsurgeon.api.live.pretrained",
    "fully_convolutional": "convsurgeon.api.fully",
    "load": "convsurgeon.api.live.loading",
    "original_state_dict": "convsurgeon.integrations.drop_ins",
    "restore": "convsurgeon.api.restoring",
    "restore_module": "convsurgeon.api.live.undoing",
    "save_pretrained": "convsurgeon.api.live.saved",
    "scan": "convsurgeon.api.scanning",
    "swap": "convsurgeon.api.swapping",
    "swap_module": "convsurgeon.api.live.surgery",
    "verify": "convsurgeon.api.verifying",
}

__all__ = [
    "BenchReport",
    "ConvsurgeonError",
    "DenseReport",
    "LoadReport",
    "ModuleReport",
    "Plan",
    "RestoreReport",
    "SwapReport",
    "Verdict",
    "__version__",
    "bench",
    "from_pretrained",
    "fully_convolutional",
    "load",
    "original_state_dict",
    "restore",
    "restore_module",
    "save_pretrained",
    "scan",
    "swap",
    "swap_module",
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
