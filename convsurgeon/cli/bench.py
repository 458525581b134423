"""`convsurgeon bench`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from convsurgeon.cli import options as o
from convsurgeon.cli.progress import progress
from convsurgeon.cli.run import Show, run
from convsurgeon.limits import DEFAULT_MAX_HEADER

if TYPE_CHECKING:
    from convsurgeon.timing import BenchReport

_MEASURING = "Measuring"

Place = Annotated[
    str | None,
    typer.Argument(
        help="A .safetensors file, a shard index, a folder or a PyTorch file; none with --model.",
        show_default=False,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="cpu, cuda, cuda:1, mps.",
        rich_help_panel=_MEASURING,
        show_default="cuda, else mps, else cpu",
        metavar="DEVICE",
    ),
]
Dtype = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        help="float64, float32, bfloat16, float16.",
        rich_help_panel=_MEASURING,
        show_default="as in the file",
        metavar="DTYPE",
    ),
]
Batch = Annotated[
    int, typer.Option("--batch", help="Maps per call.", rich_help_panel=_MEASURING, metavar="N")
]
InputSize = Annotated[
    str | None,
    typer.Option(
        "--input-size",
        help="Spatial size of a layer's input: 224x224, or 2x224x224.",
        rich_help_panel=_MEASURING,
        show_default="by config.json, else 16 windows by 16",
        metavar="SIZE",
    ),
]
Backward = Annotated[
    bool,
    typer.Option(
        "--backward",
        help="Time forward and backward together too.",
        rich_help_panel=_MEASURING,
    ),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile", help="Put every form through torch.compile.", rich_help_panel=_MEASURING
    ),
]
Rounds = Annotated[
    int,
    typer.Option(
        "--rounds", help="How often to time each form.", rich_help_panel=_MEASURING, metavar="N"
    ),
]
Seconds = Annotated[
    float,
    typer.Option(
        "--seconds",
        help="Begin no further round of a layer after this time; 5 rounds are made anyway.",
        rich_help_panel=_MEASURING,
        metavar="S",
    ),
]


def bench(
    ctx: typer.Context,
    path: Place = None,
    layer: o.Layers = None,
    exclude: o.Exclude = None,
    only: o.Only = None,
    device: Device = None,
    dtype: Dtype = None,
    batch: Batch = 1,
    input_size: InputSize = None,
    backward: Backward = False,
    compile: Compile = False,  # noqa: A002 (the option's name)
    rounds: Rounds = 30,
    seconds: Seconds = 10.0,
    geometry: o.GeometryRule = None,
    model: o.Model = None,
    evidence: o.Evidence = None,
    require_evidence: o.Require = "fingerprint",
    config: o.Config = None,
    no_config: o.NoConfig = False,
    key: o.Key = None,
    max_header_bytes: o.MaxHeader = DEFAULT_MAX_HEADER,
    recursive: o.Recursive = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    report: o.ReportFile = None,
) -> None:
    """Time the conv and its linear forms here, and say which to use."""

    def work() -> BenchReport:
        from convsurgeon.api.bench_choices import OWN
        from convsurgeon.api.benching import bench as api_bench

        own: dict[str, Any] = {name: ctx.params[name] for name in OWN}
        with progress(quiet=quiet, unit="layers") as bar:
            return api_bench(path, progress=bar, **own, **o.choices(ctx))

    show = Show("convsurgeon.bench/1", as_json, quiet, report)
    run(show, work, lambda found: found.exit_code())
