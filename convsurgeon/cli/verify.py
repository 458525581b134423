"""`convsurgeon verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convsurgeon.cli import options as o
from convsurgeon.cli.run import Show, run
from convsurgeon.limits import DEFAULT_MAX_HEADER

if TYPE_CHECKING:
    from convsurgeon.proof import Verdict


def verify(
    ctx: typer.Context,
    original: Annotated[
        Path, typer.Argument(help="The checkpoint before; alone: the swapped one, by its recipe.")
    ],
    swapped: Annotated[
        Path | None, typer.Argument(help="What swap made of it.", show_default=False)
    ] = None,
    bits: Annotated[
        bool, typer.Option("--bits", help="Leave out the proofs that need torch.")
    ] = False,
    geometry: o.GeometryRule = None,
    input_shape: o.InputShape = None,
    method: o.Method = "kernel",
    layer: o.Layers = None,
    model: o.Model = None,
    evidence: o.Evidence = None,
    require_evidence: o.Require = "fingerprint",
    config: o.Config = None,
    no_config: o.NoConfig = False,
    key: o.Key = None,
    max_header_bytes: o.MaxHeader = DEFAULT_MAX_HEADER,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    report: o.ReportFile = None,
) -> None:
    """Prove, or refute, that two checkpoints are equivalent."""

    def work() -> Verdict:
        from convsurgeon.api.verifying import verify as api_verify

        return api_verify(original, swapped, function=not bits, **o.choices(ctx))

    show = Show("convsurgeon.verify/1", as_json, quiet, report)
    run(show, work, lambda verdict: 0 if verdict.equivalent else 1)
