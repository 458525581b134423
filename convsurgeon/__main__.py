"""`convsurgeon` and `python -m convsurgeon`."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from convsurgeon.cli import app

    app()


if __name__ == "__main__":
    main()
