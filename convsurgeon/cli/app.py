"""The commands in one list."""

from __future__ import annotations

from typing import Annotated

import typer

from convsurgeon.cli.explain import explain
from convsurgeon.cli.restore import restore
from convsurgeon.cli.scan import scan
from convsurgeon.cli.swap import swap
from convsurgeon.cli.verify import verify

_EPILOG = (
    "Exit codes: 0 done and proved, 1 not equivalent, 2 wrong usage, 3 refused, "
    "4 done in part, 130 interrupted."
)

app = typer.Typer(
    name="convsurgeon",
    help="Rewrite convolutions into equivalent linear layers, and back, with proof and undo.",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (scan, swap, verify, restore, explain):
    app.command(epilog=_EPILOG)(command)


def _version(value: bool) -> None:
    if value:
        from convsurgeon import __version__

        typer.echo(f"convsurgeon {__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Rewrite convolutions into equivalent linear layers, and back, with proof and undo."""
    del version
