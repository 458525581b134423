"""`convsurgeon swap`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from convsurgeon.cli import options as o
from convsurgeon.cli.progress import progress
from convsurgeon.cli.run import Show, run
from convsurgeon.limits import DEFAULT_MAX_HEADER
from convsurgeon.rearrangement import CHANNEL_FIRST

if TYPE_CHECKING:
    from convsurgeon.results import SwapReport

Verify = Annotated[
    str,
    typer.Option(
        "--verify",
        help="full; bits leaves out what needs torch; exhaustive samples nothing.",
        rich_help_panel="Output",
        metavar="LEVEL",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Print the plan of a run, write nothing.", rich_help_panel="Output"
    ),
]
Link = Annotated[
    bool,
    typer.Option(
        "--link",
        help="Hard-link the shards that do not change instead of copying them.",
        rich_help_panel="Output",
    ),
]


FullyConvolutional = Annotated[
    bool,
    typer.Option(
        "--fully-convolutional",
        help="Make a classifier one for larger images: with --model and --input.",
        rich_help_panel="Layers",
    ),
]
Pool = Annotated[
    str,
    typer.Option(
        "--pool",
        help="For it, a global average pool: refuse, or behind (a class-activation map).",
        rich_help_panel="Layers",
        metavar="WHERE",
    ),
]


def swap(
    ctx: typer.Context,
    paths: o.Paths,
    out: o.Out = None,
    to: o.To = "linear",
    fully_convolutional: FullyConvolutional = False,
    pool: Pool = "refuse",
    layer: o.Layers = None,
    exclude: o.Exclude = None,
    only: o.Only = None,
    child_keys: o.ChildKeys = False,
    layout: o.Layout = CHANNEL_FIRST,
    method: o.Method = "kernel",
    untie: o.Untie = False,
    geometry: o.GeometryRule = None,
    input_shape: o.InputShape = None,
    model: o.Model = None,
    example_input: o.ExampleInput = None,
    evidence: o.Evidence = None,
    require_evidence: o.Require = "fingerprint",
    config: o.Config = None,
    no_config: o.NoConfig = False,
    key: o.Key = None,
    max_header_bytes: o.MaxHeader = DEFAULT_MAX_HEADER,
    recursive: o.Recursive = False,
    verify: Verify = "full",
    dry_run: DryRun = False,
    force: o.Force = False,
    link: Link = False,
    in_place: o.InPlace = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    report: o.ReportFile = None,
    strict: o.Strict = False,
) -> None:
    """Rewrite the eligible layers, verify, then publish the new file."""
    own = {"verify": verify, "force": force, "dry_run": dry_run, "link": link, "in_place": in_place}
    work = partial(_swap, ctx, paths, out, own, quiet=quiet)
    run(Show("convsurgeon.swap/1", as_json, quiet, report), work, partial(_code, strict=strict))


def _swap(
    ctx: typer.Context, paths: list[str], out: Path | None, own: Mapping[str, Any], *, quiet: bool
) -> SwapReport:
    from convsurgeon.api.swapping import swap as api_swap

    with progress(quiet=quiet) as bar:
        return api_swap(paths, out, progress=bar, **own, **o.choices(ctx))


def _code(report: SwapReport, *, strict: bool) -> int:
    return report.exit_code(strict=strict)
