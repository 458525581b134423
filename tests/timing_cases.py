"""What the tests of timings share: small layers, and figures that nobody measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from convsurgeon.geometry import Geometry
from convsurgeon.timing import (
    Advice,
    BenchFile,
    BenchReport,
    Environment,
    Setup,
    Spread,
    TimedLayer,
    Timing,
    advise,
)
from convsurgeon.timing.subjects import Subject
from tests.cli_helpers import f32, write

QUICK = Setup(rounds=1, seconds=1e-6)
CONFIG = ("config", "config.json: patch_size 2")


def subject(
    kernel: tuple[int, ...] = (2, 2),
    spatial: tuple[int, ...] = (5, 6),
    *,
    channels: int = 3,
    out: int = 4,
    dtype: str = "F32",
    bias: bool = True,
) -> Subject:
    geometry = Geometry.plain(kernel, kernel)
    form, shape = f"conv{len(kernel)}d", (out, channels, *kernel)
    return Subject(form, shape, dtype, bias, geometry, spatial, "a test")


def spread(median: float, width: float = 0.0, rounds: int = 30) -> Spread:
    """Quartiles around a median."""
    return Spread(median, median - width / 2, median + width / 2, rounds, 1)


def made_up(
    medians: Mapping[str, float | None],
    *,
    width: float = 0.0,
    rounds: int = 30,
    output: str = "map",
    passes: str = "forward",
) -> list[Timing]:
    """Timings with these medians in seconds; None for a form that cannot be run."""
    return [
        Timing(form, output, passes, None, note="no such kernel")
        if median is None
        else Timing(form, output, passes, spread(median, width, rounds), 4096)
        for form, median in medians.items()
    ]


def advised(medians: Mapping[str, float | None], width: float = 0.0, rounds: int = 30) -> Advice:
    (advice,) = advise(made_up(medians, width=width, rounds=rounds))
    return advice


MILLI = 1e-3
ENVIRONMENT = Environment(
    convsurgeon="0.1.0",
    python="3.11.7",
    torch="2.13.0",
    system="Linux x86_64",
    device="cpu",
    device_name="made-up processor",
    threads=2,
)


def report() -> BenchReport:
    """A patch embedding to replace, a stem to keep, and layers of which little is known."""
    as_map = {"conv": 12.3, "channels-last": 9.0, "gemm": 3.35, "linear": 3.36}
    tokens = {"conv": 15.0, "channels-last": 9.1, "gemm": 3.5, "linear": 3.4, "product": 3.1}
    kept = {"conv": 0.31, "channels-last": 0.30, "gemm": 0.62, "linear": 0.65}
    layers = (
        timed("patch_embed.proj", [as_map, tokens], geometry=(16, 16)),
        timed("stem[bold]\x1b[31m", [kept], geometry=(4, 4), source="nothing"),
        timed("blocks.0.down", [{**kept, "gemm": None}], count=12, rounds=3),
    )
    training = made_up(
        {name: 3e-6 * value for name, value in as_map.items()}, passes="forward+backward"
    )
    last = timed("head", [{"conv": 2000.0, "channels-last": None, "gemm": 1500, "linear": 1900}])
    unknown = Timing("linear", "map", "forward", spread(1.0), None, "no peak is counted")
    file = BenchFile("model.safetensors", layers, ("2 undecided: see scan",))
    head = replace(last, timings=(*last.timings[:3], unknown, *training))
    other = BenchFile("timm:made_up", (head,))
    return BenchReport(ENVIRONMENT, Setup(backward=True), (file, other), ("nothing is compiled",))


def timed(
    name: str,
    blocks: Sequence[Mapping[str, float | None]],
    *,
    geometry: tuple[int, int] = (2, 2),
    source: str = "config.json: image_size",
    count: int = 1,
    rounds: int = 30,
) -> TimedLayer:
    """A layer with made-up figures in milliseconds: the first block as a map, then as tokens."""
    timings: list[Timing] = []
    for output, block in zip(("map", "tokens"), blocks, strict=False):
        seconds = {form: v if v is None else v * MILLI for form, v in block.items()}
        timings += made_up(seconds, width=0.2 * MILLI, rounds=rounds, output=output)
    return TimedLayer(
        modules=tuple(name.replace("0", str(i)) for i in range(count)),
        form="conv2d",
        weight_shape=(64, 3, *geometry),
        bias=count == 1,
        geometry=Geometry.plain(geometry, geometry),
        evidence=CONFIG,
        dtype="float32",
        input_shape=(1, 3, 224, 224),
        size_source=source,
        timings=tuple(timings),
    )


def conv1d_file(path: Path) -> Path:
    """A file whose only layer has one axis, for which torch has no channels-last memory."""
    return write(path, {"proj.weight": f32((4, 3, 2)), "stem.weight": f32((4, 3, 3, 3))})
