"""Small models of many kinds, swapped live: rightly, and a little wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from importlib import import_module, util
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import convsurgeon as cs
from convsurgeon.nn import FlatConv2d, GemmConv2d, GemmConv3d, PatchLinear
from convsurgeon.sources.live import build_live

SAMPLES = Path(__file__).resolve().parent.parent / "sample_checkpoints"
_TINY = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "image_size": 64}
_TINY |= {"intermediate_size": 128, "patch_size": 8}
_SMALL: Mapping[str, Mapping[str, Any]] = {
    "ViTModel": _TINY,
    "CLIPVisionModel": _TINY,
    "ConvNextModel": {"hidden_sizes": [16, 32, 32, 64], "depths": [1, 1, 2, 1]},
    "SwinModel": {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4},
}


@dataclass(frozen=True)
class Kind:
    """A kind of model.

    Attributes:
        build: from a seed to a model with random weights, or a trained one.
        shapes: of the inputs of its forward, by parameter.
        alike: whether inputs are drawn from the numbers that the weights were drawn from: products
            are of one sign then, and rounding errors of their sum are largest.
    """

    build: Callable[[int], nn.Module]
    shapes: Mapping[str, tuple[int, ...]]
    alike: bool = False


class Patches(nn.Module):
    """A transformer over patches of an image or of a clip."""

    def __init__(self, kernel: tuple[int, ...], depth: int = 4, labels: int = 10) -> None:
        """Prepare a projection of 3 channels to 64 features, `depth` blocks and a head."""
        super().__init__()
        conv: Any = nn.Conv2d if len(kernel) == 2 else nn.Conv3d
        self.proj = conv(3, 64, kernel, stride=kernel)
        block = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(block, depth, enable_nested_tensor=False)
        self.head = nn.Linear(64, labels)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, 3, *spatial]` to `[B, labels]`."""
        tokens = self.proj(x).flatten(2).transpose(1, 2)
        scores: Tensor = self.head(self.blocks(tokens).mean(1))
        return scores


def _patches(seed: int, kernel: tuple[int, ...], **options: int) -> nn.Module:
    torch.manual_seed(seed)
    return Patches(kernel, **options).eval()


def _one(seed: int, make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(make()).eval()


def _head(seed: int) -> nn.Module:
    """Build a convolution, and the head of a VGG behind it: 25088 features to 64 to 10."""
    torch.manual_seed(seed)
    first = nn.Sequential(nn.Conv2d(3, 512, 3, padding=1), nn.ReLU(), nn.Flatten())
    return nn.Sequential(first, nn.Linear(25_088, 64), nn.ReLU(), nn.Linear(64, 10)).eval()


def _sample(seed: int, name: str) -> nn.Module:
    del seed
    model = build_live(f"{SAMPLES / name / 'model.py'}:build")
    cs.load(model, SAMPLES / name / "model.safetensors")
    return model.eval()


def _transformers(seed: int, name: str) -> nn.Module:
    library: Any = import_module("transformers")
    config = getattr(library, name.removesuffix("Model") + "Config")
    torch.manual_seed(seed)
    # At the usual range of 0.02 the output hardly depends on the pixels.
    model: nn.Module = getattr(library, name)(config(**_SMALL[name], initializer_range=0.3))
    return model.eval()


def kinds() -> dict[str, Kind]:
    """Return the kinds by name; those of transformers only where it is installed."""
    found = {
        f"patches of {k}": Kind(partial(_patches, kernel=(k, k)), {"x": (2, 3, 3 * k, 3 * k)})
        for k in (4, 8, 16, 32)
    }
    p16: Any = partial(_patches, kernel=(16, 16))
    found |= {
        "patches of 2x14x14": Kind(partial(_patches, kernel=(2, 14, 14)), {"x": (2, 3, 4, 42, 42)}),
        "patches of 16, 16 blocks": Kind(partial(p16, depth=16), {"x": (2, 3, 48, 48)}),
        "patches of 16, 1 output": Kind(partial(p16, labels=1), {"x": (1, 3, 48, 48)}),
        "head of 25088": Kind(_head, {"input": (2, 3, 7, 7)}),
        "vit_digits": Kind(partial(_sample, name="vit_digits"), {"x": (4, 1, 8, 8)}),
        "jit_digits": Kind(partial(_sample, name="jit_digits"), {"z": (2, 1, 28, 28), "t": (2,)}),
        "clip3d_digits": Kind(partial(_sample, name="clip3d_digits"), {"x": (2, 1, 6, 24, 24)}),
        "lenet_digits": Kind(partial(_sample, name="lenet_digits"), {"x": (4, 1, 28, 28)}),
    }
    if util.find_spec("transformers"):
        for name in _SMALL:
            shapes = {"pixel_values": (2, 3, 64, 64)}
            found[name] = Kind(partial(_transformers, name=name), shapes)
    conv32, flat = partial(nn.Conv2d, 3, 64, 32, 32), partial(nn.Linear, 25_088)
    found |= {
        "a conv alone, 3072 inputs": Kind(partial(_one, make=conv32), {"input": (1, 3, 64, 64)}),
        "a Linear alone, 25088 inputs": Kind(
            partial(_one, make=partial(flat, 64)), {"input": (2, 25_088)}
        ),
        "the same, input like weights": Kind(
            partial(_one, make=partial(flat, 64)), {"input": (2, 25_088)}, alike=True
        ),
        "the same, 1 output": Kind(
            partial(_one, make=partial(flat, 1)), {"input": (1, 25_088)}, alike=True
        ),
    }
    return found


def swapped(model: nn.Module, number: int) -> tuple[nn.Module, str]:
    """Return a copy whose eligible layers are replaced, and the name of the first of them.

    Args:
        model: the original.
        number: which of the drop-ins is taken: two layouts of `PatchLinear`, and `GemmConv`.
    """
    copy, names = deepcopy(model), []
    for name, layer in list(copy.named_modules()):
        new = _drop_in(layer, number)
        if new is not None:
            copy.set_submodule(name, new)
            names.append(name)
    return copy, names[0]


def _drop_in(layer: nn.Module, number: int) -> nn.Module | None:
    if type(layer) is nn.Linear:
        sides = {25_088: (512, 7), 256: (16, 4)}  # the heads; 256 is that of lenet_digits
        of_head = sides.get(layer.in_features)
        return FlatConv2d.from_linear(layer, *of_head) if of_head else None
    if type(layer) not in {nn.Conv2d, nn.Conv3d}:
        return None
    makers: tuple[Callable[[nn.Module], nn.Module], ...] = (
        partial(PatchLinear.from_conv, layout="c p1 p2"),
        partial(PatchLinear.from_conv, layout="p1 p2 c"),
        GemmConv2d.from_conv if type(layer) is nn.Conv2d else GemmConv3d.from_conv,
    )
    try:
        return makers[number % 3](layer)
    except ValueError:  # it is no patchify convolution
        return None


def _scaled(weight: Tensor, factor: float) -> None:
    weight.view(-1)[_typical(weight)] *= factor


def _nudged(weight: Tensor) -> None:
    flat, at = weight.view(-1), _typical(weight)
    flat[at] = torch.nextafter(flat[at], torch.full_like(flat[at], float("inf")))


def _shifted(weight: Tensor) -> None:
    weight[0] = weight[0].flatten().roll(1).view_as(weight[0])


def _turned(weight: Tensor) -> None:
    weight.copy_(weight.transpose(-1, -2).clone())


def _reordered(weight: Tensor) -> None:
    """Read every row channel last where it is channel first."""
    weight.copy_(weight.movedim(1, -1).reshape(weight.shape).clone())


def _typical(weight: Tensor) -> int:
    """Return where an element of middling magnitude stands."""
    return int(weight.abs().flatten().argsort()[weight.numel() // 2])


WRONG: Mapping[str, Callable[[Tensor], None]] = {
    "one element, a last place": _nudged,
    "one element, by 1e-3": partial(_scaled, factor=1.001),
    "one element, its sign": partial(_scaled, factor=-1.0),
    "one row shifted": _shifted,
    "axes exchanged": _turned,
    "layout": _reordered,
}
"""What is wrong with the weight `[O, C, *kernel]` of a swapped layer."""


def damaged(model: nn.Module, layer: str, wrong: Callable[[Tensor], None]) -> nn.Module | None:
    """Return a copy of a swapped model with a wrong weight in one layer.

    None where the weight stays what it is: one channel stands in the same order either way.
    """
    copy = deepcopy(model)
    found: Any = copy.get_submodule(layer)
    with torch.no_grad():
        weight = found.weight.clone()
        wrong(weight)
        if torch.equal(weight, found.weight):
            return None
        found.weight.copy_(weight)
    return copy
