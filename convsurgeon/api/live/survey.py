"""A live model as what a plan is made from: names, shapes, dtypes, and what its layers say.

Imported by `swap_module` alone, with torch at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from glob import escape
from math import prod
from typing import TYPE_CHECKING

from convsurgeon.api.choices import Request
from convsurgeon.api.live.model import stored_tensors
from convsurgeon.evidence import Level, Statement
from convsurgeon.geometry import LINEAR, Geometry, Refusal, conv_form
from convsurgeon.header import pack
from convsurgeon.nn import (
    FlatConv1d,
    FlatConv2d,
    FlatConv3d,
    GemmConv1d,
    GemmConv2d,
    GemmConv3d,
    PatchLinear,
    SplitConv,
)
from convsurgeon.plan import Contents, FilePlan, LayerPlan, Shard, Verdict, make_plan
from convsurgeon.sources.layers import examine, reforwarded
from convsurgeon.sources.model import Layer, ModelSpeaker
from convsurgeon.store.pickles import DTYPE_NAMES
from convsurgeon.tree import natural

if TYPE_CHECKING:
    from torch import Tensor, nn

Hear = Callable[[ModelSpeaker], ModelSpeaker]
GEMM_CONVS = (GemmConv1d, GemmConv2d, GemmConv3d)
FLAT_CONVS = (FlatConv1d, FlatConv2d, FlatConv3d)
FlatConv = FlatConv1d | FlatConv2d | FlatConv3d
GemmConv = GemmConv1d | GemmConv2d | GemmConv3d
DropIn = PatchLinear | GemmConv | FlatConv | SplitConv
# What torch computes with and no file holds, such as complex128, counts as bytes without a meaning.
_OPAQUE = "U8"


@dataclass(frozen=True, eq=False, slots=True)
class Survey:
    """What is known about a model.

    Attributes:
        title: the model in two words, as plans and reports show it.
        modules: by name; one that is used twice has two.
        drop_ins: those of them that an earlier swap put there.
        tensors: parameters and persistent buffers by name.
        inside: the names of those that drop-ins hold.
    """

    title: str
    modules: dict[str, nn.Module]
    drop_ins: dict[str, DropIn]
    tensors: dict[str, Tensor]
    inside: frozenset[str]

    @classmethod
    def of(cls, model: nn.Module) -> Survey:
        """Walk through a model; no tensor is read, and no hook of its state dict is run."""
        modules = dict(model.named_modules(remove_duplicate=False))
        drop_ins = {path: m for path, m in modules.items() if isinstance(m, DropIn)}
        covered = {id(module) for one in drop_ins.values() for module in one.modules()}
        tensors: dict[str, Tensor] = {}
        inside: set[str] = set()
        for path, module in modules.items():
            own = {_joined(path, name): tensor for name, tensor in stored_tensors(module)}
            tensors.update(own)
            inside.update(own if id(module) in covered else ())
        title = f"live {type(model).__name__}"
        return cls(title, modules, drop_ins, tensors, frozenset(inside))

    def plan(self, request: Request, hear: Hear | None = None) -> FilePlan:
        """Decide about every layer as if the model were a file and said itself what it is.

        Args:
            request: what is to become of which layers.
            hear: adds to what the model says; None where nothing is added.

        Raises:
            UsageError, ContradictionError: where the user's statements do not fit the model.
        """
        shapes = {name: shape for name in self.tensors if (shape := self.shape(name)) is not None}
        outside = {name: shape for name, shape in shapes.items() if name not in self.inside}
        header = pack((n, _dtype(self.tensors[n]), shape) for n, shape in outside.items())
        # Tied tensors once, as they are in memory.
        sizes = {id(t := self.tensors[n]): prod(s) * t.dtype.itemsize for n, s in shapes.items()}
        notes = tuple(f"{text} matches no module" for text in request.user.unused(self.tensors))
        speaker = self._speaker() if hear is None else hear(self._speaker())
        notes += (speaker.note,) if speaker.note else ()
        contents = Contents(self.title, (Shard(self.title, header),), sum(sizes.values()), notes)
        made = make_plan(contents, request.user.beside([speaker]), request.wish)
        rows = [*map(self._in_live_words, made.layers), *self._drop_in_rows(request.wish.to)]
        rows.sort(key=lambda row: natural(row.key))
        return replace(made, tensors=len(self.tensors), layers=tuple(rows))

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return the shape of a tensor when it is whole; None where it has none yet.

        A layer says what its weight's shape is, also where the weight is lazy or a shard.
        """
        from torch.nn.parameter import is_lazy

        path, _, attribute = name.rpartition(".")
        declared = declared_shape(self.modules[path]) if attribute == "weight" else None
        if declared is not None:
            return declared
        tensor = self.tensors[name]
        return None if is_lazy(tensor) else tuple(tensor.shape)

    def _speaker(self) -> ModelSpeaker:
        import torch

        layers = {}
        for path, found in examine(torch, self.modules[""], (reforwarded,)).items():
            name = _joined(path, "weight")
            said = Statement(Level.MODEL, self.title, found.form, found.geometry, found.refusal)
            layers[path] = Layer(said, self.shape(name) if name in self.tensors else found.shape)
        return ModelSpeaker(self.title, layers, frozenset(self.tensors))

    def _in_live_words(self, row: LayerPlan) -> LayerPlan:
        """Say what a caller of Python would: keywords for options, and dtypes that no file has."""
        if row.verdict is Verdict.UNDECIDED:
            return replace(row, hint=f"input_shape=[{f'{escape(row.module)}=CxHxW'!r}]")
        dtype = str(self.tensors[row.key].dtype)
        if dtype[6:] in DTYPE_NAMES:
            return row
        reason = f"{dtype} is no plain floating dtype" if row.code == "CS010" else row.reason
        return replace(row, dtype=dtype[6:], reason=reason)

    def _drop_in_rows(self, to: str) -> Iterator[LayerPlan]:
        for path, module in self.drop_ins.items():
            linear, kind = isinstance(module, PatchLinear), type(module).__name__
            own, weight = _first_weight(module)
            flat = isinstance(module, (*FLAT_CONVS, SplitConv))
            other = Refusal("CS026", f"a {kind} stands for another layer: restore_module first")
            refusal = other if flat == (to == "linear") else None
            shape = conv_shape(module)
            geometry = Geometry.plain(
                module.kernel_size, (1,) * (len(shape) - 2) if flat else module.kernel_size
            )
            yield LayerPlan(
                module=path,
                key=_joined(path, own),
                file=self.title,
                form=LINEAR if linear else conv_form(geometry.ndim),
                weight_shape=(shape[0], geometry.window * shape[1]) if linear else shape,
                dtype=_dtype(weight),
                bias=module.bias is not None,
                geometry=geometry,
                evidence=(Level.MODEL.label, self.title),
                verdict=Verdict.REFUSED if refusal else Verdict.ALREADY,
                code=refusal.code if refusal else None,
                reason=refusal.reason if refusal else f"already a {kind}",
            )


def _first_weight(module: DropIn) -> tuple[str, Tensor]:
    """Return the name of a drop-in's weight, or of its first part, and a tensor of its dtype."""
    if isinstance(module, PatchLinear):
        return "linear.weight", module.compute
    if isinstance(module, SplitConv):
        return "parts.0.weight", module.convs[0].weight
    return "weight", module.weight


def conv_shape(module: DropIn) -> tuple[int, ...]:
    """Return the shape `[O, C, *kernel]` of the weight that a drop-in shows."""
    return (module.out_channels, module.in_channels, *module.kernel_size)


def declared_shape(module: nn.Module) -> tuple[int, ...] | None:
    """Return the shape that a layer of torch gives its weight; None for every other module.

    A lazy layer says 0 for the inputs that it does not know yet.
    """
    from torch import nn
    from torch.nn.modules.lazy import LazyModuleMixin

    exact = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    if type(module) not in exact and not isinstance(module, LazyModuleMixin):
        return None
    if isinstance(module, nn.Linear):
        return (module.out_features, module.in_features)
    # What somebody set as a single number is no declaration: torch reads the weight's shape.
    many = not isinstance(module.kernel_size, int)
    if many and isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return (module.out_channels, module.in_channels // module.groups, *module.kernel_size)
    return None


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _dtype(tensor: Tensor) -> str:
    return DTYPE_NAMES.get(str(tensor.dtype)[6:], _OPAQUE)
