"""`convsurgeon` and `python -m convsurgeon`."""

from __future__ import annotations

import sys
from contextlib import suppress


def main() -> None:
    """Run the command line, and end the process with it.

    From here on Ctrl-C, SIGTERM and SIGHUP end in one line and exit code 130, until the exit code
    is decided and all is said. From then on they are ignored: they would change nothing but the
    exit code, which tells what was done, or leave a traceback.
    """
    try:
        try:
            _run()
        finally:
            _ignore_interrupts()
    except KeyboardInterrupt:  # where no command line was there to say it: during imports, or so
        _ignore_interrupts()
        with suppress(OSError, AttributeError):  # nobody can be told; the exit code still says it
            sys.stderr.write("convsurgeon: interrupted; nothing half-written remains\n")
        sys.exit(130)
    except (ImportError, MemoryError) as error:  # before a command has begun
        missing = isinstance(error, ModuleNotFoundError)
        hint = "install convsurgeon again" if missing else "raise the limits of the system"
        sys.stderr.write(f"convsurgeon: it cannot start: {error} [CS037]; {hint}\n")
        sys.exit(3)


def _run() -> None:
    import signal

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup has it
            signal.signal(number, signal.default_int_handler)  # cleans up like Ctrl-C
    import gc

    from convsurgeon.cli import app
    from convsurgeon.cli.streams import open_closed

    open_closed()
    # A plan of a thousand files is a million small objects without a cycle among them; to look for
    # one after every 700 would be a sixth of the time.
    gc.set_threshold(50_000, 20, 100)
    app()


def _ignore_interrupts() -> None:
    import signal

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    main()
