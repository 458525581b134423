"""Canvases with scattered digits: what `lenet_digits` learns from, and what it is slid over.

A window of a canvas holds a digit in its middle, or a part of one, or parts of several, or nothing.
A classifier that has only seen digits in the middle answers all of them with some digit. Trained on
windows of canvases it answers "any of the ten alike" where no digit is in the middle, so that its
highest probability tells where the digits are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

SIDE = 28  # of a digit's image and of the classifier's window
NEAR = 2  # a window this close to a digit, in pixels along both axes, shows that digit
FAR = 4  # from here on it shows none; what lies between is neither, and is not trained on
_ATTEMPTS = 30


class Canvas(NamedTuple):
    """An image with digits on it.

    Attributes:
        image: `[1, H, W]`, 0 to 1.
        places: top left corners of the digits' images, `[N, 2]`, row first, in pixels.
        chosen: which of the given images each is, `[N]`.
    """

    image: Tensor
    places: np.ndarray
    chosen: np.ndarray


class Windows(NamedTuple):
    """Cuttings of a canvas.

    Attributes:
        images: `[M, 1, 28, 28]`.
        chosen: which image's digit is in the middle, `[M]`; -1 for none.
    """

    images: Tensor
    chosen: np.ndarray


def scatter(images: Tensor, rng: np.random.Generator, height: int, width: int) -> Canvas:
    """Put images `[N, 1, 28, 28]` on a canvas at random pixels, one by one, where there is room.

    Images may touch and do not overlap: corners of any two are 28 pixels apart along an axis. An
    image for which no room is found in 30 attempts is left out.
    """
    canvas = torch.zeros(1, height, width)
    places: list[np.ndarray] = []
    chosen: list[int] = []
    for number, image in enumerate(images):
        attempts = rng.integers(0, (height - SIDE + 1, width - SIDE + 1), (_ATTEMPTS, 2))
        free = (place for place in attempts if _apart(place, places))
        place = next(free, None)
        if place is not None:
            row, column = place
            canvas[:, row : row + SIDE, column : column + SIDE] = image
            places.append(place)
            chosen.append(number)
    return Canvas(canvas, np.array(places).reshape(-1, 2), np.array(chosen, dtype=int))


def _apart(place: np.ndarray, places: list[np.ndarray]) -> bool:
    return all(np.abs(place - other).max() >= SIDE for other in places)


def cut(canvas: Canvas, rng: np.random.Generator) -> Windows:
    """Cut two windows for each digit: one that shows it, and one from anywhere on the canvas."""
    count, limits = len(canvas.places), np.array(canvas.image.shape[1:]) - SIDE
    near = canvas.places + rng.integers(-NEAR, NEAR + 1, (count, 2))
    anywhere = rng.integers(0, limits + 1, (count, 2))
    corners = np.concatenate([near.clip(0, limits), anywhere])
    distances = np.abs(corners[:, None] - canvas.places).max(axis=2)
    nearest, distance = distances.argmin(axis=1), distances.min(axis=1)
    clear = (distance <= NEAR) | (distance >= FAR)
    chosen = np.where(distance <= NEAR, canvas.chosen[nearest], -1)[clear]
    cuttings = [canvas.image[:, r : r + SIDE, c : c + SIDE] for r, c in corners[clear]]
    return Windows(torch.stack(cuttings), chosen)


def targets(windows: Windows, labels: Tensor, classes: int, smoothing: float) -> Tensor:
    """Return the probabilities `[M, classes]` to learn: a digit, or all classes alike.

    Args:
        windows: what is looked at.
        labels: the digits of the images that were scattered, `[N]`.
        classes: how many there are.
        smoothing: the share of a digit's probability that all classes divide.
    """
    chosen = torch.from_numpy(windows.chosen)
    digits = functional.one_hot(labels[chosen.clamp(min=0)], classes) * (1 - smoothing)
    share = torch.where(chosen < 0, 1.0, smoothing)
    return torch.where(chosen[:, None] < 0, 0.0, digits) + share[:, None] / classes
