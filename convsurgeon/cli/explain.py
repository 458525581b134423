"""`convsurgeon explain`."""

from __future__ import annotations

from typing import Annotated

import typer

from convsurgeon.codes import Code, codes
from convsurgeon.untrusted import safe


def explain(
    code: Annotated[
        str | None, typer.Argument(help="A code such as CS001; all of them without.")
    ] = None,
) -> None:
    """Explain a refusal code: what it means, an example, the way out."""
    table = codes()
    if code is None:
        for row in table.values():
            typer.echo(f"{row.code}  {row.title}")
        return
    found = table.get(code.upper())
    if found is None:
        typer.echo(f"convsurgeon: there is no code {safe(code)}; explain lists them", err=True)
        raise typer.Exit(2)
    typer.echo(text_of(found))


def text_of(code: Code) -> str:
    """Return the page of one code."""
    parts = (f"{code.code}  {code.title}", code.meaning, f"Example: {code.example}")
    return "\n\n".join((*parts, f"What to do: {code.way_out}"))
