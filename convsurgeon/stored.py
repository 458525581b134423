"""What the names, dtypes and metadata around a weight say: is the stored tensor the weight itself?

Each check is one function and one row. They hold whatever the geometry is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from convsurgeon.dtypes import PLAIN_FLOATS
from convsurgeon.geometry import Refusal


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor and what stands around it.

    Attributes:
        key: its name.
        dtype: as stored.
        names: every name in the checkpoint.
        metadata: of the file that holds it.
    """

    key: str
    dtype: str
    names: Collection[str]
    metadata: Mapping[str, str]

    @property
    def module(self) -> str:
        """The key without its last component."""
        return self.key.rpartition(".")[0]


PARAMETRISED = ("weight_v", "weight_orig", "original", "original0", "original1")
"""Last components under which weight norm and parametrisations keep what the weight is made of."""


def parametrised(stored: Stored) -> Refusal | None:
    """Refuse `weight_v`, `weight_orig` and `parametrizations.weight.original0`."""
    last = stored.key.rpartition(".")[2]
    old = last in ("weight_v", "weight_orig")
    if not old and "parametrizations" not in stored.module.split("."):
        return None
    return Refusal("CS008", f"{last} is no weight: the layer computes its weight from it")


def channel_last(stored: Stored) -> Refusal | None:
    """Refuse every layer of a file that says it is MLX's."""
    if stored.metadata.get("format", "").lower() != "mlx":
        return None
    return Refusal("CS009", "the file's metadata says format mlx: weights are channel-last")


def not_plain(stored: Stored) -> Refusal | None:
    """Refuse integers, packed bits, complex numbers."""
    if stored.dtype in PLAIN_FLOATS:
        return None
    return Refusal("CS010", f"dtype {stored.dtype} is no plain floating dtype")


_SCALES = (
    *("weight_scale", "weight_scale_inv", "weight_scale_2", "scale_weight"),
    *("scale", "scales", "SCB", "absmax"),
)


def scaled(stored: Stored) -> Refusal | None:
    """Refuse a weight with quantisation state beside or below its name."""
    prefix = stored.key.removesuffix(stored.key.rpartition(".")[2])
    names = (*(prefix + scale for scale in _SCALES), f"{stored.key}.absmax")
    found = next((name for name in names if name in stored.names), None)
    return Refusal("CS011", f"a scale is stored beside it: {found}") if found else None


_ADAPTERS = ("lora_A.weight", "lora_B.weight", "lora_A.default.weight", "lora_down.weight")


def adapted(stored: Stored) -> Refusal | None:
    """Refuse a layer that adapter tensors belong to."""
    base = stored.module.removesuffix(".base_layer")
    found = next((f"{base}.{a}" for a in _ADAPTERS if f"{base}.{a}" in stored.names), None)
    if found is None and base == stored.module:
        return None
    return Refusal("CS012", f"an adapter belongs to it: {found or stored.module}")


CHECKS: tuple[Callable[[Stored], Refusal | None], ...] = (
    parametrised,
    channel_last,
    not_plain,
    scaled,
    adapted,
)
"""Every check, in the order in which they are asked."""


def obstacle(stored: Stored) -> Refusal | None:
    """Return the first reason why the stored tensor is not simply the weight; None if it is."""
    return next((refusal for check in CHECKS if (refusal := check(stored))), None)
