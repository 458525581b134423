"""`--report FILE`: the same value in the format that the file's name says."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from convsurgeon.errors import UsageError
from convsurgeon.report.bench_markdown import bench_as_markdown
from convsurgeon.report.markdown import as_markdown
from convsurgeon.report.show import show
from convsurgeon.results import Report
from convsurgeon.store import INDEX_SUFFIX, SIDECAR_SUFFIX, FileDraft
from convsurgeon.timing import BenchReport

FORMATS = (".json", ".md", ".svg")
_TAKEN = (INDEX_SUFFIX, SIDECAR_SUFFIX)
"""How the names of files end without which a checkpoint is lost, or can never be restored."""

# rich's own template fetches a font from the web; a report must not call home.
_SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{
  font-family: "Fira Code", "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width;
}}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix" xml:space="preserve">
{matrix}
</g>
</g>
</svg>
"""


# The only characters that `safe` lets through and XML forbids.
_NOT_IN_XML = dict.fromkeys((0xFFFE, 0xFFFF), "\N{REPLACEMENT CHARACTER}")


def check_format(path: Path) -> None:
    """Refuse a name whose format is not known, or that a report must not take, before any work.

    Raises:
        UsageError: CS090.
    """
    if path.suffix not in FORMATS:
        message = f"{path.suffix or 'no suffix'} is none of {', '.join(FORMATS)}"
        raise UsageError("CS090", message, where=f"--report {path}")
    if path.name.endswith(_TAKEN):
        message = "this is the name of a shard index or of a recipe, which a report would replace"
        hint = "choose another name"
        raise UsageError("CS090", message, where=f"--report {path}", hint=hint)


def save(report: Report, path: Path, title: str) -> None:
    """Write a report to a file; an existing one is replaced.

    Args:
        report: any value that the public functions return.
        path: ends in one of `FORMATS`.
        title: shown above an SVG.

    Raises:
        UsageError: CS090 for another ending.
        OutputError: CS071.
    """
    check_format(path)
    views: dict[str, Callable[[], str]] = {
        ".json": lambda: json.dumps(report.to_json(), indent=2) + "\n",
        ".md": lambda: markdown(report),
        ".svg": lambda: _svg(report, title),
    }
    text = views[path.suffix]()
    with FileDraft(path, force=True) as draft:
        draft.write([text.encode("utf-8")])
        draft.publish()


def markdown(report: Report) -> str:
    """Return any report as Markdown."""
    return bench_as_markdown(report) if isinstance(report, BenchReport) else as_markdown(report)


def _svg(report: Report, title: str) -> str:
    console = Console(
        record=True, width=100, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    show(console, report)
    svg = console.export_svg(title=title, theme=MONOKAI, code_format=_SVG, unique_id="convsurgeon")
    return svg.translate(_NOT_IN_XML)
