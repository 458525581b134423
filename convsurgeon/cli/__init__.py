"""The command line: parse, call, show."""

from convsurgeon.cli.app import app

__all__ = ["app"]
