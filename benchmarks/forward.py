"""The forward pass of well-known patch embeddings: the conv, its replacements, the bare product.

    python benchmarks/forward.py                                    # some ten minutes
    python benchmarks/forward.py --only SD3 --rounds 5 --seconds 2  # a quick look
    python benchmarks/forward.py --page docs/benchmarks-forward.md  # into the page

Every row is measured by the code of `convsurgeon bench`. Weights are random.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from accuracy import put

from convsurgeon.geometry import Geometry
from convsurgeon.report.bench_words import advice_text, machine, seconds
from convsurgeon.timing import Setup, TimedLayer
from convsurgeon.timing.device import device_of, environment
from convsurgeon.timing.run import timed
from convsurgeon.timing.subjects import Alike, Subject

DTYPES = ("float32", "bfloat16")
FORMS = ("conv", "channels-last", "gemm", "linear", "product")


@dataclass(frozen=True)
class Case:
    """A patch embedding as its model calls it.

    Attributes:
        weight: `[O, C, *kernel]`; the stride is the kernel.
        batch: maps per call.
        spatial: size of a map.
        bias: whether there is one.
    """

    weight: tuple[int, ...]
    batch: int
    spatial: tuple[int, ...]
    bias: bool = True


CASES: Mapping[str, Case] = {
    "ViT-B/16 at 224": Case((768, 3, 16, 16), 1, (224, 224)),
    "DINOv2 g/14 at 518": Case((1536, 3, 14, 14), 1, (518, 518)),
    # The latent of 1024 pixels, twice for classifier-free guidance.
    "SD3 p2, two latents of 128": Case((1536, 16, 2, 2), 2, (128, 128)),
    "ConvNeXt-T stem at 224": Case((96, 3, 4, 4), 1, (224, 224)),
    # The image processor cuts the patches; each is a map of one window.
    "Qwen2-VL 2x14x14, 1024 patches": Case((1280, 3, 2, 14, 14), 1024, (2, 14, 14), bias=False),
}


def measured(name: str, case: Case, dtype: str, setup: Setup) -> TimedLayer:
    """Time one patch embedding in one dtype."""
    kernel = case.weight[2:]
    subject = Subject(
        form=f"conv{len(kernel)}d",
        weight_shape=case.weight,
        dtype="F32",
        bias=case.bias,
        geometry=Geometry.plain(kernel, kernel),
        spatial=case.spatial,
        size_source=name,
    )
    own = Setup(setup.device, case.batch, setup.rounds, setup.seconds, dtype)
    (layer,) = timed([Alike(subject, (name,), ("user", "this benchmark"))], own, lambda *_: None)
    return layer


def lines(layers: Sequence[TimedLayer]) -> Iterator[str]:
    """Yield the table: a row for each layer, dtype and way to consume the output."""
    head = ("layer", "input", "dtype", "output", *FORMS, "replacement to product", "advice")
    yield f"| {' | '.join(head)} |"
    yield f"|{' --- |' * len(head)}"
    for layer in layers:
        medians = {
            (t.form, t.output): t.seconds.median for t in layer.timings if t.seconds is not None
        }
        limit = medians.get(("product", "tokens"))
        for advice in layer.advice:
            cells = [medians.get((form, advice.output)) for form in FORMS]
            own = [m for m in (cells[FORMS.index(form)] for form in ("gemm", "linear")) if m]
            ratio = f"{min(own) / limit:.2f}" if own and limit else "-"
            shown = (seconds(value) if value else "-" for value in cells)
            size = "×".join(map(str, layer.input_shape))
            row = (layer.modules[0], size, layer.dtype, advice.output, *shown, ratio)
            yield f"| {' | '.join(row)} | {advice_text(advice)} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each layer, at most")
    parser.add_argument("--device", help="default: the best one here")
    parser.add_argument("--only", default="", help="layers whose name contains this")
    parser.add_argument("--dtype", action="append", choices=DTYPES, help="default: both")
    parser.add_argument("--page", type=Path, help="write the table on docs/benchmarks-forward.md")
    options = parser.parse_args()
    setup = Setup(device_of(options.device), rounds=options.rounds, seconds=options.seconds)
    layers = [
        measured(name, case, dtype, setup)
        for name, case in CASES.items()
        for dtype in options.dtype or DTYPES
        if options.only in name
    ]
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    rounds = f"{options.rounds} rounds or {options.seconds:g} s a layer, in turns"
    found = [f"{day}: {machine(environment(setup.device))}; {rounds}.", "", *lines(layers)]
    print("\n".join(found))
    if options.page:
        put(options.page, "forward", found)


if __name__ == "__main__":
    main()
