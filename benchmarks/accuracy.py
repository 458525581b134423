"""How often the evidence is right, and how often it is missing, on public architectures.

    python benchmarks/accuracy.py census          # 3,241 checkpoints, with their config.json
    python benchmarks/accuracy.py census --bare   # the same with the header alone
    python benchmarks/accuracy.py changed         # configurations that nobody published; or --bare
    python benchmarks/accuracy.py unseen          # each family in a catalogue without it

Truth is the geometry of the live modules (tests/census). A layer is *wrong* when it is called
eligible and is not; *found* when it is called eligible and is.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from unseen import unseen
from zoo_files import CENSUS, Row, rows, write

import convsurgeon as cs
from convsurgeon.errors import ConvsurgeonError

CHANGED = CENSUS.with_name("changed.jsonl.xz")


class Judged(NamedTuple):
    """One layer: what was said about it, and what is true; or an error in place of its key."""

    source: str
    architecture: str
    key: str
    level: str
    called: str
    eligible: bool = False
    patchify: bool = False


def judge(found: Iterable[Row], *, bare: bool) -> Iterator[Judged]:
    """Scan each checkpoint and compare every layer with the truth."""
    with tempfile.TemporaryDirectory() as folder:
        for row in found:
            path = write(row, Path(folder), config=not bare)
            try:
                plan = cs.scan(path)
            except ConvsurgeonError as error:
                yield Judged(row["source"], row["name"], str(error), "", "error")
                continue
            yield from _layers(row, plan)


def _layers(row: Row, plan: Any) -> Iterator[Judged]:
    truth = {conv["key"]: conv for conv in row["convs"]}
    seen = set()
    for layer in (layer for file in plan.files for layer in file.layers):
        conv = truth.get(layer.key)
        seen.add(layer.key)
        yield Judged(
            row["source"],
            row["name"],
            layer.key,
            layer.evidence[0] if layer.evidence else "none",
            layer.verdict.value,
            bool(conv and conv["eligible"]),
            len(layer.weight_shape) > 2 and max(layer.weight_shape[2:]) > 1,
        )
    for failure in plan.errors:
        yield Judged(row["source"], row["name"], failure.message, "", "error")
    for key, conv in truth.items():
        if key not in seen and key in row["tensors"]:
            patch = max(conv["kernel"]) > 1
            yield Judged(row["source"], row["name"], key, "none", "unseen", conv["eligible"], patch)


def report(judged: Iterable[Judged]) -> tuple[dict[str, dict[str, int]], list[str]]:
    """Return the figures by library and by level, and the lines of their table."""
    everything = list(judged)
    groups = {"all": everything}
    for source in sorted({j.source for j in everything}):
        groups[source] = [j for j in everything if j.source == source]
    for level in sorted({j.level for j in everything if j.called == "eligible"}):
        groups[f"by {level}"] = [j for j in everything if j.level == level]
    figures = {name: _figures(some) for name, some in groups.items()}
    lines = ["| | " + " | ".join(_COLUMNS) + " |", "|---" * (len(_COLUMNS) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(_cells(f)) + " |" for name, f in figures.items()]
    wrong = [j for j in everything if j.called == "eligible" and not j.eligible]
    lines += [""] * bool(wrong)
    lines += [f"- wrong: {j.source} `{j.architecture}`, `{j.key}` ({j.level})" for j in wrong]
    failed = [j for j in everything if j.called == "error"]
    lines += [f"- error: {j.source} `{j.architecture}`: {j.key}" for j in failed]
    return figures, lines


_COLUMNS = (
    *("eligible, called so", "eligible, refused", "eligible, undecided"),
    *("not eligible, called eligible: **wrong**", "not eligible, refused"),
    *("not eligible, undecided", "found, kernel > 1", "found, all"),
)


def _figures(judged: list[Judged]) -> dict[str, int]:
    true = [j for j in judged if j.eligible]
    false = [j for j in judged if not j.eligible and j.called != "error"]
    called = Counter(j.called for j in true), Counter(j.called for j in false)
    found = called[0]["eligible"]
    return {
        "called": found + called[1]["eligible"],
        "wrong": called[1]["eligible"],
        "patchify": sum(j.patchify for j in true),
        "patchify_found": sum(j.patchify and j.called == "eligible" for j in true),
        "eligible": len(true),
        "found": found,
        "missed_refused": called[0]["refused"],
        "missed_undecided": len(true) - found - called[0]["refused"],
        "right_refused": called[1]["refused"],
        "right_undecided": len(false) - called[1]["eligible"] - called[1]["refused"],
    }


def _cells(f: dict[str, int]) -> list[str]:
    names = ("found", "missed_refused", "missed_undecided", "wrong", "right_refused")
    counts = [f"{f[name]:,}" for name in (*names, "right_undecided")]
    shares = _share(f["patchify_found"], f["patchify"]), _share(f["found"], f["eligible"])
    return [*counts, *shares]


def _share(part: int, whole: int) -> str:
    return f"{part:,} of {whole:,} ({100 * part / whole:.2f} %)" if whole else "-"


def put(page: Path, name: str, lines: list[str]) -> None:
    """Write a table between its marks on a page."""
    text = page.read_text(encoding="utf-8")
    before, mark, rest = text.partition(f"<!-- {name} -->\n")
    _, end, after = rest.partition("<!-- end -->\n")
    if not mark or not end:
        sys.exit(f"{page} has no place for {name!r}")
    page.write_text(before + mark + "\n".join(["", *lines, ""]) + "\n" + end + after, "utf-8")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("census", "changed", "unseen"))
    parser.add_argument("--bare", action="store_true", help="leave the config.json out")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--page", type=Path, help="write the table on docs/accuracy.md")
    parser.add_argument("--only", default="", help="rows whose source or name contains this")
    options = parser.parse_args()
    path = CHANGED if options.what == "changed" else CENSUS
    wanted = [r for r in rows(path) if options.only in f"{r['source']} {r['name']}"]
    if options.what == "unseen":
        judged: Iterator[Judged] = (Judged(*one) for one in unseen(wanted))
    else:
        judged = judge(wanted, bare=options.bare)
    kind = "header alone" if options.bare or options.what == "unseen" else "with config.json"
    figures, lines = report(judged)
    day, python = f"{datetime.now(UTC):%Y-%m-%d}", platform.python_version()
    lines.insert(0, f"{len(wanted):,} checkpoints, {kind}; {day}, Python {python}\n")
    print("\n".join(lines))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))
    if options.page:
        put(options.page, options.what + (" bare" if options.bare else ""), lines)


if __name__ == "__main__":
    main()
