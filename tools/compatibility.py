"""The page docs/reference/compatibility.md, from the table beside it that the tests take rows from.

The table, `compatibility.toml`, holds one TOML table for each row, in one for each section. A cell
is a text for one of `KINDS` that begins with "ok" or "no".
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

TABLE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "compatibility.toml"
KINDS = ("conv", "gemm", "linear")
"""What stands in the layer's place: the convolution itself, then both drop-ins."""

_HEAD = """\
What was tried with a model whose layers `cs.swap_module` replaced, on a CPU, with the libraries in
the versions of [constraints.txt](../../constraints.txt). `gemm` and `linear` are the
[two kinds](../how-to/live-models.md#two-kinds) of drop-ins; conv is the same model as it was. An
empty cell was not asked.

Every cell is a test, named in its row: an "ok" is a test that passes, and a "no" one that shows the
failure, and in most cases the way out below the table too. A cell without its test fails the tests,
and so does a test without its row. Files whose name ends in `_long` are
[run by hand](../long-tests.md)."""


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: its key in the table, by which tests ask for it.
        section: the heading that it stands under.
        check: what is done to a model.
        cells: by kind, a text that begins with "ok" or "no"; a kind without one is not asked.
        tests: the tests that show it, as "file::function", without ".py".
        way_out: what to do where a cell says "no".
    """

    name: str
    section: str
    check: str
    cells: dict[str, str]
    tests: tuple[str, ...]
    way_out: str = ""

    def kinds(self, answer: str) -> list[str]:
        """Return the kinds of which the table gives this answer, "ok" or "no"."""
        return [kind for kind, text in self.cells.items() if text.split(maxsplit=1)[0] == answer]


def read(text: str) -> dict[str, Row]:
    """Return the rows by name, in the order of the table.

    Raises:
        ValueError: two rows have one name, or a cell says neither "ok" nor "no".
    """
    rows: dict[str, Row] = {}
    for section, entries in tomllib.loads(text).items():
        for name, entry in entries.items():
            cells = {kind: entry.pop(kind) for kind in KINDS if kind in entry}
            row = Row(
                name=name,
                section=section,
                cells=cells,
                **{**entry, "tests": tuple(entry["tests"])},
            )
            if name in rows or len(row.kinds("ok") + row.kinds("no")) != len(cells):
                raise ValueError(f"two rows are called {name}, or one of its cells says nothing")
            rows[name] = row
    return rows


def page(note: str) -> str:
    """Return the text of the page."""
    rows = read(TABLE.read_text(encoding="utf-8")).values()
    lines = ["# Compatibility", "", note, "", *_HEAD.splitlines()]
    for section, found in groupby(rows, key=lambda row: row.section):
        lines += ["", f"## {section}", "", *_section(list(found))]
    return "\n".join(lines) + "\n"


def _section(rows: list[Row]) -> Iterator[str]:
    yield f"| what is done | {' | '.join(KINDS)} | tests |"
    yield "| --- " * (len(KINDS) + 2) + "|"
    for row in rows:
        cells = (row.cells.get(kind, "") for kind in KINDS)
        files = dict.fromkeys(test.split("::")[0] for test in row.tests)
        links = ", ".join(f"[{file}](../../tests/{file}.py)" for file in files)
        yield f"| {row.check} | {' | '.join(cells)} | {links} |"
    limits = [row for row in rows if row.way_out]
    yield from ["", "Ways out:", ""] if limits else []
    yield from (f"- **{row.check}**: {row.way_out}" for row in limits)
