"""A classifier of single digits finds all digits on a larger image.

    python examples/fully_convolutional.py                   slide it over a canvas, show the map
    python examples/fully_convolutional.py --svg map.svg     draw the map as well
    python examples/fully_convolutional.py --measure 200     count what it finds on 200 canvases

`lenet_digits` takes images of 28x28 pixels and nothing else: its head is linear layers behind a
flatten. `convsurgeon.fully_convolutional` makes convolutions of them, and then it takes any larger
image and gives a map of class scores, one cell for each window at its stride of 4 pixels. The
digits that are shown are held out: the model never saw them, nor any canvas that they are on.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import convsurgeon as cs

SAMPLES = Path(__file__).resolve().parent.parent / "sample_checkpoints"
sys.path.insert(0, str(SAMPLES))  # the samples' own data and canvases

from canvas import Canvas, scatter  # noqa: E402 - found by the line above
from data import Examples, load_model, load_split  # noqa: E402 - as above
from drawing import drawn, printed  # noqa: E402 - beside this file

HEIGHT, WIDTH, DIGITS = 160, 240, 10
STRIDE = 4  # of the network, in pixels: two pools of 2
THRESHOLD = 0.5  # chosen on training digits; from 0.4 to 0.6 the figures there differ by 0.2 %
RADIUS = 2  # in cells: a peak is the highest within
CLOSE = 4  # in pixels, along both axes: a digit between two cells is at most 2 from the nearer one


class Found(NamedTuple):
    """A peak of the map.

    Attributes:
        row: of its window's top left corner, in pixels.
        column: likewise.
        digit: the class.
        probability: of that class, 0 to 1.
    """

    row: int
    column: int
    digit: int
    probability: float


class Score(NamedTuple):
    """What was found on canvases whose digits are known.

    Attributes:
        digits: how many there were.
        peaks: how many were found.
        right: peaks of the right class at the place of a digit, each digit counted once.
    """

    digits: int
    peaks: int
    right: int


def fully_convolutional() -> nn.Module:
    """Return `lenet_digits` with its head as convolutions; the proof must hold."""
    model = load_model("lenet_digits")
    slid: nn.Module = cs.fully_convolutional(model, torch.zeros(1, 1, 28, 28)).model
    return slid


@torch.no_grad()
def class_map(model: nn.Module, image: Tensor) -> Tensor:
    """Slide the model over an image `[1, H, W]`; return probabilities `[10, H', W']`."""
    scores: Tensor = model(image[None])
    return scores[0].softmax(dim=0)


def peaks(probabilities: Tensor) -> list[Found]:
    """Return where the highest probability is above the threshold and above its neighbours'."""
    highest, digits = probabilities.max(dim=0)
    around = functional.max_pool2d(highest[None], 2 * RADIUS + 1, stride=1, padding=RADIUS)[0]
    places = torch.nonzero((highest == around) & (highest > THRESHOLD)).tolist()
    return [
        Found(r * STRIDE, c * STRIDE, int(digits[r, c]), float(highest[r, c])) for r, c in places
    ]


def score(found: list[Found], canvas: Canvas, labels: Tensor) -> Score:
    """Count the peaks that are right; one digit found twice is one right and one false peak."""
    left = dict(enumerate(zip(canvas.places.tolist(), canvas.chosen.tolist(), strict=True)))
    right = 0
    for peak in found:
        for key, ((row, column), chosen) in left.items():
            near = max(abs(peak.row - row), abs(peak.column - column)) <= CLOSE
            if near and int(labels[chosen]) == peak.digit:
                right += 1
                del left[key]
                break
    return Score(len(canvas.chosen), len(found), right)


def canvas_of(examples: Examples, rng: np.random.Generator) -> tuple[Canvas, Tensor]:
    """Scatter ten digits off the grid; return the canvas and the labels of the images given."""
    drawn_ones = torch.from_numpy(rng.permutation(len(examples.labels))[:DIGITS])
    canvas = scatter(examples.images[drawn_ones], rng, HEIGHT, WIDTH)
    return canvas, examples.labels[drawn_ones]


def measure(model: nn.Module, examples: Examples, canvases: int, seed: int) -> Score:
    """Add up the scores of many canvases."""
    rng = np.random.default_rng(seed)
    scores = []
    for _ in range(canvases):
        canvas, labels = canvas_of(examples, rng)
        scores.append(score(peaks(class_map(model, canvas.image)), canvas, labels))
    return Score(*(sum(column) for column in zip(*scores, strict=True)))


def show(seed: int, svg: Path | None) -> None:
    """Print one canvas before and after, and draw it where asked."""
    canvas, _ = canvas_of(load_split("lenet_digits", "held_out"), np.random.default_rng(seed))
    size = f"{HEIGHT}x{WIDTH}"
    try:
        load_model("lenet_digits")(canvas.image[None])
    except RuntimeError as error:
        print(f"before: an image of {size} is refused: {error}")
    probabilities = class_map(fully_convolutional(), canvas.image)
    found = peaks(probabilities)
    shape = list(probabilities.shape)
    print(f"after: a map {shape} of it, {len(found)} peaks for {len(canvas.chosen)} digits")
    print(printed(probabilities, THRESHOLD))
    if svg is not None:
        labels = [(peak.row, peak.column, peak.digit) for peak in found]
        svg.write_text(drawn(canvas.image, probabilities, labels, STRIDE), encoding="utf-8")


def main() -> None:
    """Show one canvas, or measure many."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=17, help="of the canvases")
    parser.add_argument("--svg", type=Path, help="where the figure goes")
    parser.add_argument("--measure", type=int, metavar="N", help="count on N canvases instead")
    options = parser.parse_args()
    if not options.measure:
        show(options.seed, options.svg)
        return
    model = fully_convolutional()
    print("| digits | canvases | scattered | found | false peaks |")
    print("| --- | --- | --- | --- | --- |")
    for part in ("train", "held_out"):
        total = measure(model, load_split("lenet_digits", part), options.measure, options.seed)
        found, false = total.right / total.digits, 1 - total.right / total.peaks
        row = f"{part} | {options.measure} | {total.digits} | {found:.1%} | {false:.1%}"
        print(f"| {row} |")


if __name__ == "__main__":
    main()
