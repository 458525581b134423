"""`convsurgeon restore`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from convsurgeon.cli import options as o
from convsurgeon.cli.run import Show, run
from convsurgeon.limits import DEFAULT_MAX_HEADER

if TYPE_CHECKING:
    from convsurgeon.results import RestoreReport


def restore(
    swapped: Annotated[Path, typer.Argument(help="A file or folder that swap wrote.")],
    out: o.Out = None,
    force: o.Force = False,
    in_place: o.InPlace = False,
    max_header_bytes: o.MaxHeader = DEFAULT_MAX_HEADER,
    as_json: o.Json = False,
    quiet: o.Quiet = False,
    report: o.ReportFile = None,
) -> None:
    """Undo: give back the byte-identical original."""

    def work() -> RestoreReport:
        from convsurgeon.api.restoring import restore as api_restore

        call = partial(api_restore, swapped, out, force=force, in_place=in_place)
        return call(max_header_bytes=max_header_bytes)

    run(Show("convsurgeon.restore/1", as_json, quiet, report), work, lambda r: r.exit_code())
