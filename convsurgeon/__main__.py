"""`convsurgeon` and `python -m convsurgeon`."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    import sys

    try:
        _run()
    except KeyboardInterrupt:  # before a command has begun, or when all is done
        sys.stderr.write("convsurgeon: interrupted; nothing half-written remains\n")
        sys.exit(130)


def _run() -> None:
    import gc

    from convsurgeon.cli import app
    from convsurgeon.cli.streams import open_closed

    open_closed()
    # A plan of a thousand files is a million small objects without a cycle among them; to look for
    # one after every 700 would be a sixth of the time.
    gc.set_threshold(50_000, 20, 100)
    app()


if __name__ == "__main__":
    main()
