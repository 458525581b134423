"""The commands in one list."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from convsurgeon.cli.bench import bench
from convsurgeon.cli.explain import explain
from convsurgeon.cli.restore import restore
from convsurgeon.cli.run import INTERRUPTED, interrupted, leave, unshown, wrong_usage
from convsurgeon.cli.scan import scan
from convsurgeon.cli.swap import swap
from convsurgeon.cli.verify import verify

_EPILOG = (
    "Exit codes: 0 done and proved, 1 not equivalent, 2 wrong usage, 3 refused, "
    "4 done in part, 130 interrupted."
)


class Commands(TyperGroup):
    """Reports wrong usage as every other error is reported: in one line."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command line and exit; for the arguments see `click.Command.main`."""
        try:
            return self._exited(*args, **options)
        except SystemExit as end:
            if end.code == INTERRUPTED:  # of a command, or of the parser before and behind it
                interrupted()
            raise

    def _exited(self, *args: Any, **options: Any) -> Any:
        line = args[0] if args else options.get("args")
        given = sys.argv[1:] if line is None else list(line)
        try:
            if not given:
                return super().main(*args, **options)  # shows the help, and exits
            code = super().main(*args, **{**options, "standalone_mode": False})
        except SystemExit:
            if not given:
                raise
            code = 0  # rich and typer leave with 1, an answer, where the reader of a help has left
        except OSError as error:
            code = unshown(error)
        except Exception as error:
            # What the parser raises; its classes have moved between versions of typer.
            if not hasattr(error, "format_message"):
                raise
            code = wrong_usage(error, as_json="--json" in given)
        return leave(code or 0)


app = typer.Typer(
    name="convsurgeon",
    cls=Commands,
    help="Rewrite convolutions into equivalent linear layers, and back, with proof and undo.",
    epilog=_EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (scan, swap, verify, restore, bench, explain):
    app.command(epilog=_EPILOG)(command)


def _version(value: bool) -> None:
    if value:
        from convsurgeon.version import __version__

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
