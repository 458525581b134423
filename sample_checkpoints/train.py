"""Train the sample checkpoints again: `python sample_checkpoints/train.py [--only NAME]`.

One thread and fixed seeds make a run repeatable on one machine with one version of torch; other
machines add up in another order and end with slightly different weights.
"""

from __future__ import annotations

import argparse
import math
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import torch
from canvas import cut, scatter, targets
from data import (
    HERE,
    SAMPLES,
    Examples,
    add_noise,
    evaluate,
    load_source,
    load_split,
    make_clips,
)
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

SMOOTHING = 0.05
Loss = Callable[[nn.Module, Examples, np.random.Generator], Tensor]


class Schedule(NamedTuple):
    """How one sample is trained: AdamW, a short warm-up, then a cosine down to zero."""

    loss: Loss
    epochs: int
    batch: int
    rate: float
    seed: int


def jitter(images: Tensor, rng: np.random.Generator, *, degrees: float, shift: float) -> Tensor:
    """Turn, scale and move each of `[N, 1, H, W]` images by a little; `shift` is in pixels."""
    count, side = len(images), images.shape[-1]
    angle = np.radians(rng.uniform(-degrees, degrees, count))
    scale = rng.uniform(0.9, 1.1, count)
    # affine_grid counts from -1 to 1, so one pixel is 2 / side.
    move = rng.uniform(-shift, shift, (count, 2)) * 2 / side
    matrix = np.empty((count, 2, 3), dtype=np.float32)
    matrix[:, 0, 0] = matrix[:, 1, 1] = np.cos(angle) * scale
    matrix[:, 0, 1] = -np.sin(angle) * scale
    matrix[:, 1, 0] = np.sin(angle) * scale
    matrix[:, :, 2] = move
    shape = [count, 1, side, side]
    grid = functional.affine_grid(torch.from_numpy(matrix), shape, align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def small_digit_loss(model: nn.Module, batch: Examples, rng: np.random.Generator) -> Tensor:
    """Cross-entropy of 8x8 digits, moved by less than a pixel."""
    return cross_entropy(model, jitter(batch.images, rng, degrees=10, shift=0.7), batch.labels)


def canvas_loss(model: nn.Module, batch: Examples, rng: np.random.Generator) -> Tensor:
    """Cross-entropy of windows of canvases on which 28x28 digits are scattered, nine on each."""
    images = jitter(batch.images, rng, degrees=12, shift=0.5)
    shown, wanted = [], []
    for some, labels in zip(torch.split(images, 9), torch.split(batch.labels, 9), strict=True):
        windows = cut(scatter(some, rng, height=112, width=112), rng)
        shown.append(windows.images)
        wanted.append(targets(windows, labels, classes=10, smoothing=SMOOTHING))
    return functional.cross_entropy(model(torch.cat(shown)), torch.cat(wanted))


def clip_loss(model: nn.Module, batch: Examples, rng: np.random.Generator) -> Tensor:
    """Cross-entropy of the direction of digits that are set in motion anew each time."""
    clips, directions = make_clips(batch.images, rng)
    return cross_entropy(model, clips, directions)


def denoising_loss(model: nn.Module, batch: Examples, rng: np.random.Generator) -> Tensor:
    """Squared error of the predicted clean image, at all shares of noise alike."""
    images = batch.images * 2 - 1
    t = torch.from_numpy(rng.random(len(images), dtype=np.float32))
    return functional.mse_loss(model(add_noise(images, t, rng), t), images)


def cross_entropy(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy, with the labels smoothed so that logits stay moderate."""
    return functional.cross_entropy(model(inputs), labels, label_smoothing=SMOOTHING)


SCHEDULES = {
    "vit_digits": Schedule(small_digit_loss, epochs=50, batch=64, rate=2e-3, seed=1),
    "jit_digits": Schedule(denoising_loss, epochs=40, batch=64, rate=2e-3, seed=2),
    "lenet_digits": Schedule(canvas_loss, epochs=100, batch=128, rate=2e-3, seed=3),
    "clip3d_digits": Schedule(clip_loss, epochs=10, batch=64, rate=2e-3, seed=4),
}


def rate_factor(step: int, total: int) -> float:
    """Scale the learning rate at `step`: linear over the first twentieth, then half a cosine."""
    warm = max(1, total // 20)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm)))


def batches(examples: Examples, plan: Schedule, rng: np.random.Generator) -> Iterator[Examples]:
    """Yield whole batches of `examples`, in a new order each epoch."""
    count = len(examples.labels)
    for _ in range(plan.epochs):
        order = torch.from_numpy(rng.permutation(count))
        for start in range(0, count - plan.batch + 1, plan.batch):
            chosen = order[start : start + plan.batch]
            yield Examples(examples.images[chosen], examples.labels[chosen])


def train(name: str) -> nn.Module:
    """Train the sample `name` from fresh weights and return it."""
    plan = SCHEDULES[name]
    torch.manual_seed(plan.seed)
    rng = np.random.default_rng(plan.seed)
    model = cast("nn.Module", load_source(name).build())
    examples = load_split(name, "train")
    optimiser = torch.optim.AdamW(model.parameters(), lr=plan.rate, weight_decay=0.05)
    total = plan.epochs * (len(examples.labels) // plan.batch)
    for step, batch in enumerate(batches(examples, plan, rng)):
        for group in optimiser.param_groups:
            group["lr"] = plan.rate * rate_factor(step, total)
        loss = plan.loss(model, batch, rng)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    return model


def save(name: str, model: nn.Module, out: Path) -> Path:
    """Write the weights, and the source and config beside them, to the folder `out / name`."""
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    for side in ("config.json", "model.py"):
        if folder.resolve() != HERE / name:
            shutil.copyfile(HERE / name / side, folder / side)
    state = {key: tensor.contiguous() for key, tensor in model.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder / "model.safetensors"


def main() -> None:
    """Train and save the asked samples and print their held-out figures as README.md rows."""
    parser = argparse.ArgumentParser(description="Train the sample checkpoints again.")
    parser.add_argument("--only", choices=SAMPLES, help="train this sample alone")
    parser.add_argument("--out", type=Path, default=HERE, help="where the folders go")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    for name in [options.only] if options.only else SAMPLES:
        started = time.perf_counter()
        model = train(name)
        path = save(name, model, options.out)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        seconds = time.perf_counter() - started
        print(f"{name}: {parameters} parameters, {path.stat().st_size} bytes, {seconds:.0f} s")
        for figure, value in evaluate(name, model).items():
            print(f"| {name} | {figure} | {value:.4f} |")


if __name__ == "__main__":
    main()
