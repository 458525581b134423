"""The one place that turns an error into a line and an exit code, and a value into output."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from convsurgeon.errors import ConvsurgeonError, RefusedError
from convsurgeon.untrusted import safe

if TYPE_CHECKING:
    from convsurgeon.report import Report

INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Show:
    """How a command's result leaves it.

    Attributes:
        schema: of the JSON document, needed where there is nothing but an error.
        as_json: one document on stdout.
        quiet: nothing on stdout.
        report: a file to write as well.
    """

    schema: str
    as_json: bool = False
    quiet: bool = False
    report: Path | None = None


def run(show: Show, work: Callable[[], Report], exit_code: Callable[[Any], int]) -> NoReturn:
    """Do the work of a command, show its result, and exit.

    Args:
        show: how.
        work: gives the report.
        exit_code: of a report.
    """
    signal.signal(signal.SIGTERM, _interrupt)  # cleans up like Ctrl-C
    try:
        if show.report is not None:
            _check_report(show.report)
        report = work()
        _present(show, report)
        code = exit_code(report)
        sys.stdout.flush()
    except ConvsurgeonError as error:
        _fail(show, error)
    except KeyboardInterrupt:
        _say("interrupted; nothing half-written remains")
        raise typer.Exit(INTERRUPTED) from None
    except BrokenPipeError:
        # The reader of our output left; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(0) from None
    except Exception as error:  # noqa: BLE001 - never a traceback; a defect is still one line
        _fail(show, _defect(error))
    raise typer.Exit(code)


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _check_report(path: Path) -> None:
    from convsurgeon.report import check_format

    check_format(path)


def _present(show: Show, report: Report) -> None:
    if show.as_json:
        sys.stdout.write(json.dumps(report.to_json(), indent=2) + "\n")
    elif not show.quiet:
        from rich.console import Console

        from convsurgeon.report import show as print_report

        _make_encodable()
        print_report(Console(highlight=False), report)
    if show.report is not None:
        from convsurgeon.report import save

        save(report, show.report, "convsurgeon")


def _make_encodable() -> None:
    # The trees and arrows are no ASCII; on a terminal that is, a question mark beats a traceback.
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")


def _fail(show: Show, error: ConvsurgeonError) -> NoReturn:
    if show.as_json:
        from convsurgeon.api.planning import failure

        row = failure(error.where, error).to_json()
        document = {"schema": show.schema, "files": [], "errors": [row]}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        _say(str(error))
    raise typer.Exit(error.exit_code)


def _defect(error: Exception) -> ConvsurgeonError:
    if os.environ.get("CONVSURGEON_DEBUG"):
        raise error
    message = f"a defect in convsurgeon: {type(error).__name__}: {error}"
    hint = "please report it; CONVSURGEON_DEBUG=1 shows where"
    return RefusedError("CS091", message, hint=hint)


def _say(line: str) -> None:
    sys.stderr.write(f"convsurgeon: {safe(line)}\n")
