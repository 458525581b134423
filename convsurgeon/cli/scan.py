"""`convsurgeon scan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from convsurgeon.cli import options as o
from convsurgeon.cli.run import Show, run
from convsurgeon.limits import DEFAULT_MAX_HEADER
from convsurgeon.rearrangement import CHANNEL_FIRST

if TYPE_CHECKING:
    from convsurgeon.plan import Plan


Explain = Annotated[
    list[str] | None,
    typer.Option(
        "--explain",
        help="Show all that was weighed about the layers that match GLOB.",
        rich_help_panel="Evidence",
        metavar="GLOB",
    ),
]


def scan(
    ctx: typer.Context,
    paths: o.Paths,
    to: o.To = "linear",
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
    explain: Explain = None,
    config: o.Config = None,
    no_config: o.NoConfig = False,
    key: o.Key = None,
    max_header_bytes: o.MaxHeader = DEFAULT_MAX_HEADER,
    recursive: o.Recursive = False,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    report: o.ReportFile = None,
    strict: o.Strict = False,
) -> None:
    """Show what is inside, what is eligible, and on what evidence. Reads headers only."""

    def work() -> Plan:
        from convsurgeon.api.scanning import scan as api_scan

        return api_scan(paths, explain=explain or (), **o.choices(ctx))

    show = Show("convsurgeon.scan/1", as_json, quiet, report)
    run(show, work, lambda p: p.exit_code(strict=strict))
