"""The one place that turns an error into a line and an exit code, and a value into output."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import typer

from convsurgeon.errors import (
    ConvsurgeonError,
    NotShownError,
    OutputError,
    RefusedError,
    UnreadableError,
    UsageError,
)
from convsurgeon.untrusted import safe

if TYPE_CHECKING:
    from convsurgeon.results import Report

INTERRUPTED = 130
_READABLE = 2000
"""Layers in a JSON document that is still indented."""


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
    code = 0
    try:
        if show.report is not None:
            _check_report(show.report)
        report = work()
        code = exit_code(report)
        _deliver(show, report)
    except NotShownError as error:  # a "no" stays one, though nobody can read why
        code = code or error.exit_code
        _report(show, error)
    except ConvsurgeonError as error:
        _fail(show, error)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except OSError as error:
        _fail(show, UnreadableError.of_system(error))
    except MemoryError:
        message = "there is not enough memory, or a limit of the system is too low"
        _fail(show, UnreadableError("CS037", message, hint="raise the limit; free some memory"))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - a defect is one line, and no answer
        _fail(show, _defect(error))
    raise typer.Exit(code)


def _deliver(show: Show, report: Report) -> None:
    """Show what was done; that it cannot be shown does not undo it."""
    try:
        _present(show, report)
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit):  # rich would leave with 1, which is an answer
        _drop(sys.stdout)
    except OutputError as error:  # of --report
        raise _not_shown(error.where, error.message) from None
    except OSError as error:
        _drop(sys.stdout)
        raise _not_shown("stdout", error.strerror or str(error)) from None


def _not_shown(where: str, why: str) -> NotShownError:
    message = f"the work is done, but its report cannot be written: {why}"
    hint = "free space or choose another place for the report"
    return NotShownError("CS071", message, where=where, hint=hint)


def _check_report(path: Path) -> None:
    from convsurgeon.report.save import check_format

    check_format(path)


def wrong_usage(error: Any, *, as_json: bool) -> int:
    """Report what the parser of the command line raised; return the exit code.

    Args:
        error: of click.
        as_json: whether a document is wanted.
    """
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "convsurgeon"
    message = " ".join(error.format_message().split())
    hint = f"{command} --help shows how"
    show = Show(f"convsurgeon.{command.rpartition(' ')[2]}/1", as_json)
    return _report(show, UsageError("CS090", message.rstrip("."), hint=hint))


def interrupted() -> None:
    """Say why the exit code is `INTERRUPTED`; whatever was open is closed and removed by now."""
    _say("interrupted; nothing half-written remains")


def leave(code: int) -> NoReturn:
    """Exit; a reader of our output who has left is no reason for a traceback."""
    try:
        sys.stdout.flush()
    except OSError as error:
        code = unshown(error) or code
    sys.exit(code)


def unshown(error: OSError) -> int:
    """Report that a text could not be written to stdout; return the exit code."""
    _drop(sys.stdout)
    if isinstance(error, BrokenPipeError):
        return 0
    return _report(Show(""), _not_shown("stdout", error.strerror or str(error)))


def _drop(stream: TextIO) -> None:
    # Python would complain once more, and change the exit code, when it flushes at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _present(show: Show, report: Report) -> None:
    if show.report is not None:  # first: where it fails, stdout holds the error alone
        from convsurgeon.report.save import save

        save(report, show.report, show.schema.partition("/")[0].replace(".", " "))
    if show.as_json or show.quiet or not sys.stdout.isatty():
        # On a terminal the report itself names them.
        for failure in getattr(report, "errors", ()):
            _say(failure.message)
    if show.as_json:
        sys.stdout.write(_encoded(report.to_json()) + "\n")
    elif not show.quiet:
        from rich.console import Console

        from convsurgeon.report.show import show as print_report

        _make_encodable()
        print_report(Console(highlight=False), report)


def _encoded(document: dict[str, Any]) -> str:
    layers = sum(len(file.get("layers", ())) for file in document.get("files", ()))
    # For people, unless there is more than anybody reads: indenting takes as long as the scan.
    return json.dumps(document, indent=2 if layers <= _READABLE else None)


def _make_encodable() -> None:
    # The trees and arrows are no ASCII; on a terminal that is, a question mark beats a traceback.
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")


def _fail(show: Show, error: ConvsurgeonError) -> NoReturn:
    raise typer.Exit(_report(show, error))


def _report(show: Show, error: ConvsurgeonError) -> int:
    if show.as_json:
        from convsurgeon.api.planning import failure

        row = failure(error.where, error).to_json()
        document = {"schema": show.schema, "files": [], "errors": [row]}
        try:
            sys.stdout.write(json.dumps(document, indent=2) + "\n")
            sys.stdout.flush()
        except OSError:  # the line on stderr and the exit code still say it
            _drop(sys.stdout)
    _say(str(error))
    return error.exit_code


def _defect(error: BaseException) -> ConvsurgeonError:
    if os.environ.get("CONVSURGEON_DEBUG"):
        raise error
    message = f"a defect in convsurgeon: {type(error).__name__}: {error}"
    hint = "please report it; CONVSURGEON_DEBUG=1 shows where"
    return RefusedError("CS091", message, hint=hint)


def _say(line: str) -> None:
    try:
        sys.stderr.write(f"convsurgeon: {safe(line)}\n")
        sys.stderr.flush()
    except OSError:  # nobody can be told; the exit code still says it
        _drop(sys.stderr)
