"""A classifier slid over a larger image in one pass, against its forward and against crops.

    python benchmarks/dense.py --rounds 5 --page docs/benchmarks-dense.md

A CaffeNet-like and a VGG-16-like network with random weights and the real shapes, on an image of
451x451 pixels: a map of 8x8 cells. Wall times in turns in one run: one forward of the original at
its own size, the fully convolutional one over the whole image, and the original on the 64 crops,
one after the other and as one batch.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import torch
from accuracy import put
from torch import Tensor, nn

import convsurgeon as cs
from convsurgeon.report.bench_words import machine
from convsurgeon.timing.device import device_of, environment

IMAGE = 451
STRIDE = 32


class Row(NamedTuple):
    """Medians in seconds.

    Attributes:
        name: of the network.
        side: of its own input, in pixels.
        cells: of the map, along each axis.
        one: a forward at that size.
        slid: the fully convolutional network over the whole image.
        crops: the original on every crop, one after the other.
        batch: the same as one batch.
    """

    name: str
    side: int
    cells: int
    one: float
    slid: float
    crops: float
    batch: float


def caffenet() -> nn.Module:
    """Return CaffeNet's layers (https://github.com/BVLC/caffe, models/bvlc_reference_caffenet)."""
    norm = (5, 1e-4, 0.75)
    features = nn.Sequential(
        *(
            nn.Conv2d(3, 96, 11, stride=4),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.LocalResponseNorm(*norm),
        ),
        *(nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.LocalResponseNorm(*norm), nn.Conv2d(256, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
    )
    return nn.Sequential(features, _head(256 * 6 * 6))


def vgg16() -> nn.Module:
    """Return the layers of VGG-16 (arXiv 1409.1556, table 1, column D)."""
    layers: list[nn.Module] = []
    channels = 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(nn.Sequential(*layers), _head(512 * 7 * 7))


def _head(features: int) -> nn.Module:
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(features, 4096), nn.ReLU(), nn.Dropout()),
        *(nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 1000)),
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "CaffeNet": (caffenet, 227),
    "VGG-16": (vgg16, 224),
}


@torch.no_grad()
def measured(name: str, rounds: int) -> Row:
    """Time one network; the first round does not count.

    Raises:
        RuntimeError: the map is not what the crops give, where nothing pads.
    """
    build, side = NETWORKS[name]
    torch.manual_seed(0)
    model = build().eval()
    slid = cs.fully_convolutional(model, torch.zeros(1, 3, side, side)).model
    image = torch.rand(1, 3, IMAGE, IMAGE)
    crops = list(_crops(image, side))
    batch = torch.cat(crops)
    cells = int(slid(image).shape[-1])
    if cells**2 != len(crops):
        raise RuntimeError(f"{name}: a map of {cells}x{cells} for {len(crops)} crops")
    ways: dict[str, Callable[[], object]] = {
        "one": lambda: model(crops[0]),
        "slid": lambda: slid(image),
        "crops": lambda: [model(crop) for crop in crops],
        "batch": lambda: model(batch),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds + 1):
        for way, call in ways.items():
            start = perf_counter()
            call()
            times[way].append(perf_counter() - start)
    medians = {way: statistics.median(seconds[1:]) for way, seconds in times.items()}
    return Row(name, side, cells, **medians)


def _crops(image: Tensor, side: int) -> Iterator[Tensor]:
    starts = range(0, IMAGE - side + 1, STRIDE)
    for row in starts:
        for column in starts:
            yield image[..., row : row + side, column : column + side].contiguous()


def lines(rows: list[Row]) -> Iterator[str]:
    """Yield the figures as a Markdown table."""
    head = [
        *("network", "own input", "map", "one forward", "slid over 451×451", "to one forward"),
        *("64 crops in turn", "crops to slid", "64 crops as a batch", "batch to slid"),
    ]
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for r in rows:
        cells = [
            *(r.name, f"{r.side}×{r.side}", f"{r.cells}×{r.cells}", f"{r.one:.3f} s"),
            *(f"{r.slid:.3f} s", f"{r.slid / r.one:.1f}", f"{r.crops:.2f} s"),
            *(f"{r.crops / r.slid:.1f}", f"{r.batch:.2f} s", f"{r.batch / r.slid:.1f}"),
        ]
        yield f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure, print, and write into a page where asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=NETWORKS, help="one network alone")
    parser.add_argument("--page", type=Path, help="write the table on docs/benchmarks-dense.md")
    options = parser.parse_args()
    names = [options.only] if options.only else list(NETWORKS)
    rows = [measured(name, options.rounds) for name in names]
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    where = machine(environment(device_of("cpu")))
    found = [f"{day}: {where}; medians of {options.rounds} rounds, in turns.", "", *lines(rows)]
    print("\n".join(found))
    if options.page:
        put(options.page, "dense", found)


if __name__ == "__main__":
    main()
