"""What the names, shapes, dtypes and metadata around a weight say: is it simply a layer's weight?

Each check is one function and one row. They hold whatever the geometry is, and whoever states it.
A plain convolution or Linear has a weight and at most a bias, and nothing below it: whatever else a
checkpoint holds in the same module shows that the module computes something more.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from convsurgeon.dtypes import PLAIN_FLOATS
from convsurgeon.geometry import LINEAR, Refusal, is_conv

Shape = tuple[int, ...]
_MATRIX = 2
_STACK = 3
_FEW = 16  # enough to find the name that says most; a hostile file may hold 100,000


@dataclass(frozen=True)
class Surroundings:
    """What a weight stands among: every tensor of a checkpoint.

    Attributes:
        shapes: by name, of all shards.
        formats: what the metadata of the shards say under `format`.
    """

    shapes: Mapping[str, Shape]
    formats: frozenset[str] = frozenset()

    def under(self, prefix: str) -> list[str]:
        """Return the first few names that begin so, in alphabetical order."""
        place = bisect_left(self._names, prefix)
        return [n for n in self._names[place : place + _FEW] if n.startswith(prefix)]

    @cached_property
    def sideways(self) -> dict[str, str]:
        """Parent -> a matrix in one of its children that its bias shows to be `[in, out]`."""
        found: dict[str, str] = {}
        for name, shape in self.shapes.items():
            if len(shape) != _MATRIX or shape[0] == shape[1] or not name.endswith("weight"):
                continue
            if self.shapes.get(name.removesuffix("weight") + "bias") == shape[1:]:
                found.setdefault(_parent_of(name), name)
        return found

    @cached_property
    def _names(self) -> list[str]:
        return sorted(self.shapes)


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor and what stands around it.

    Attributes:
        key: its name.
        dtype: as stored.
        shape: as stored.
        form: what the weight is taken for, e.g. `conv2d` or `linear`.
        around: the checkpoint.
    """

    key: str
    dtype: str
    shape: Shape
    form: str
    around: Surroundings

    @property
    def module(self) -> str:
        """The key without its last component."""
        return self.key.rpartition(".")[0]

    @property
    def prefix(self) -> str:
        """What the names of the module's tensors begin with."""
        return self.key.removesuffix(self.key.rpartition(".")[2])

    @property
    def bias(self) -> Shape | None:
        """The shape of the bias beside it."""
        return self.around.shapes.get(f"{self.prefix}bias")

    def strangers(self) -> list[str]:
        """Return what the module holds beside its weight and bias, the first few names."""
        own = (self.key, f"{self.prefix}bias")
        return [name for name in self.around.under(self.prefix) if name not in own]


def _parent_of(key: str) -> str:
    return key.rpartition(".")[0].rpartition(".")[0]


_PARAMETRISED = ("weight_v", "weight_orig", "original", "original0", "original1")
# quanto, both spellings of torchao, compressed-tensors, GPTQ and AWQ.
_PACKED = re.compile(r"(?:^|\.)(?:weight[.:]_?q?data|_weight_qdata|weight_packed|qweight)$")


def stands_for_weight(key: str) -> bool:
    """Tell whether a weight is computed from the tensor of this name, which is not the weight."""
    return key.rpartition(".")[2] in _PARAMETRISED or _PACKED.search(key) is not None


def parametrised(stored: Stored) -> Refusal | None:
    """Refuse `weight_v`, `weight_orig` and `parametrizations.weight.original0`."""
    last = stored.key.rpartition(".")[2]
    old = last in ("weight_v", "weight_orig")
    if not old and "parametrizations" not in stored.module.split("."):
        return None
    return Refusal("CS008", f"{last} is no weight: the layer computes its weight from it")


def looks_channel_last(shape: Shape) -> bool:
    """Tell whether `[out, k, k, in]` of an image is likelier than a kernel with unequal axes."""
    height, width, channels = shape[-3:]
    image = height == width > 1 and channels in _IMAGE_CHANNELS
    return image and len(shape) > _STACK and channels != width


_IMAGE_CHANNELS = (1, 3, 4)
_CHANNEL_LAST = frozenset({"mlx", "tf", "flax", "jax", "keras"})


def channel_last(stored: Stored) -> Refusal | None:
    """Refuse every layer of a file, or of a file beside shards, of a channel-last library."""
    found = min(_CHANNEL_LAST & stored.around.formats, default=None)
    if found is None:
        return None
    return Refusal("CS009", f"the file's metadata says format {found}: weights are channel-last")


def not_plain(stored: Stored) -> Refusal | None:
    """Refuse integers, packed bits, complex numbers."""
    if _PACKED.search(stored.key):
        return Refusal("CS010", f"{stored.key} holds the codes of a quantised weight")
    if stored.dtype in PLAIN_FLOATS:
        return None
    return Refusal("CS010", f"dtype {stored.dtype} is no plain floating dtype")


# `proj.base_layer` and `proj.lora_A` of peft, `lora.up` of diffusers, `lora_down` of LyCORIS.
_ADAPTER = re.compile(
    r"(?:^|\.)lora_(?:A|B|up|mid|down|magnitude_vector)(?:\.|$)"
    r"|(?:^|[._])lora\.(?:up|down)(?:\.|$)|(?:^|\.)base_layer$"
)


def adapter(stored: Stored) -> Refusal | None:
    """Refuse what belongs to an adapter, whose library loads both halves by name and shape."""
    if not _ADAPTER.search(stored.module):
        return None
    return Refusal("CS012", f"{stored.module} is part of an adapter or carries one")


_OPTIMISER = re.compile(
    r"(?:^|\.)(?:optimi[sz]er|optim|(?:max_)?exp_avg(?:_sq)?|momentum_buffer|square_avg)\."
)
# A number behind it is the index of one expert, whose layers are its own.
_EXPERTS = re.compile(r"(?:^|\.)(?:experts|moe|block_sparse_moe)\.(?!(?:.*\.)?[0-9]+\.)")
_POSITIONS = re.compile(
    r"(?:^|\.)(?:pos_emb|pos_embed|position_embeddings?|relative_attention_bias)\.weight$"
)


def no_layer(stored: Stored) -> Refusal | None:
    """Refuse what has a layer's name and shape and is none; bare names decide nothing else."""
    if _OPTIMISER.search(stored.key):
        return Refusal("CS020", "an optimiser's copy: no layer computes with it")
    if len(stored.shape) == _STACK and _EXPERTS.search(stored.key):
        return Refusal("CS020", f"a stack of the matrices of {stored.shape[0]} experts")
    table = len(stored.shape) <= _STACK and stored.bias is None
    if table and _POSITIONS.search(stored.key):
        return Refusal("CS020", "a table of positions: it is looked up or added, not multiplied")
    return None


# What the module holds beside the weight -> code, and what that makes of the weight.
_COMPANIONS = (
    (
        re.compile(r"(?:^|[._])(?:lora|ia3|hada|lokr|b?oft)[._]"),
        "CS012",
        "an adapter belongs to it",
    ),
    (
        re.compile(r"^weight_(?:g|v|u|orig|mask)$|^parametrizations\.|^(?:u|sv)[0-9]$"),
        *("CS008", "the weight is computed with it"),
    ),
    (
        re.compile(
            r"scale|zero|quant|absmax|SCB|amax|packed|qweight|weight_(?:format|shape)|qdata"
        ),
        *("CS011", "the weight is scaled or packed"),
    ),
    (re.compile(""), "CS007", "a plain layer holds a weight and a bias only"),
)


def accompanied(stored: Stored) -> Refusal | None:
    """Refuse the weight of a module that holds more than a plain layer does."""
    names = stored.strangers()
    start = len(stored.prefix)
    for pattern, code, why in _COMPANIONS if names else ():
        found = next((name for name in names if pattern.search(name[start:])), None)
        if found is not None:
            return Refusal(code, f"{found} is stored beside it: {why}")
    return None


def misfit(stored: Stored) -> Refusal | None:
    """Refuse a weight whose rows are not the outputs: the bias has another length."""
    plain = is_conv(stored.form) or stored.form == LINEAR
    if not plain or stored.bias in (None, stored.shape[:1]):
        return None
    text = f"a bias {list(stored.bias or ())} beside a weight {list(stored.shape)}"
    return Refusal("CS019", f"{text}: its rows are not the outputs")


def sideways(stored: Stored) -> Refusal | None:
    """Refuse a square matrix with a bias beside matrices that are stored `[in, out]`."""
    square = len(stored.shape) == _MATRIX and stored.shape[0] == stored.shape[1]
    if not square or stored.bias is None:
        return None
    other = stored.around.sideways.get(_parent_of(stored.key))
    if other is None:
        return None
    return Refusal("CS015", f"{other} is stored [in, out]: a square matrix may be so too")


CHECKS: tuple[Callable[[Stored], Refusal | None], ...] = (
    *(parametrised, channel_last, not_plain, adapter, no_layer),
    *(accompanied, misfit, sideways),
)
"""Every check, in the order in which they are asked."""


def obstacle(stored: Stored) -> Refusal | None:
    """Return the first reason why the stored tensor is not simply the weight; None if it is."""
    return next((refusal for check in CHECKS if (refusal := check(stored))), None)
