"""The page of figures about files, made from their JSON: docs/benchmarks-files.md and its plots."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from budget_rows import MEGA, budgets, median
from growth import BASES
from plots import Point, plot

_GROWTH = {
    "size": ("With the size of the file", "gigabytes"),
    "tensors": ("With the number of tensors", "tensors"),
    "shards": ("With the number of shards", "shards"),
    "sparse": ("Holes", "gigabytes"),
}
_SAID = {
    "size": "One file with one patch embedding, which is only reshaped. `load_file` and "
    "`save_file` need a file's memory, so that large files are not measured with them.",
    "tensors": "One file of tensors of a kibibyte each.",
    "shards": "One gigabyte in all, in a folder of that many shards, one of which holds the layer.",
    "sparse": "A file whose data is one hole: it takes no room, nor does its copy. The proof reads "
    "every byte of both all the same.",
}
_INTRODUCTION = """\
# Files: budgets and growth

Every figure on this page comes from [benchmarks-files.json](benchmarks-files.json), which one
command writes, with the page and its plots:

```sh
python benchmarks/budgets.py
```

Commands run in turns in one call; times are medians, with their range, and depend on the machine;
ratios do so less. Memory is the largest resident set by the operating system's account, with the
interpreter. 1 MB is 1,000,000 bytes."""


def write_page(document: Mapping[str, Any], figures: Path) -> None:
    """Write the page, and its plots, beside the figures."""
    page = figures.with_suffix(".md")
    page.write_text("\n".join(lines(document)) + "\n", encoding="utf-8")
    folder = figures.parent / "images"
    folder.mkdir(exist_ok=True)
    for name, image in images(document).items():
        (folder / name).write_text(image, encoding="utf-8")


def lines(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the page."""
    yield _INTRODUCTION
    yield from ("", "## Budgets", "")
    yield "| what | measured | budget | met |"
    yield "| --- | --- | --- | --- |"
    yield from (f"| {' | '.join(row.cells)} |" for row in budgets(document))
    yield ""
    yield "The memory of a swap is bounded whatever the size of the file: see below."
    for kind in _GROWTH:
        if kind in document:
            yield from _growth(kind, document[kind])
    yield from ("", "## Where and when", "", "| section | date | machine |", "| --- | --- | --- |")
    yield from (f"| {name} | {s['date']} | {s['machine']} |" for name, s in document.items())


def _growth(kind: str, section: Mapping[str, Any]) -> Iterator[str]:
    title, unit = _GROWTH[kind]
    base = BASES[kind]
    yield from ("", f"## {title}", "", _SAID[kind], "")
    if len(section["points"]) > 1:
        yield from (f"![{title}](images/{_image(kind)})", "")
    yield f"| {unit} | command | median | range | to `{base}` | memory |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for point in section["points"]:
        for name, run in point["runs"].items():
            seconds = run["seconds"]
            ratio = median(run) / median(point["runs"][base])
            cells = (
                f"{point['x']:,g}",
                name,
                f"{median(run):.3f} s",
                f"{min(seconds):.3f} to {max(seconds):.3f} s",
                f"{ratio:.2f}",
                f"{run['peak_bytes'] / MEGA:.0f} MB",
            )
            yield f"| {' | '.join(cells)} |"


def images(document: Mapping[str, Any]) -> dict[str, str]:
    """Return the plots by the names of their files."""
    found = {}
    for kind, (title, unit) in _GROWTH.items():
        points = document[kind]["points"] if kind in document else []
        if len(points) > 1:
            found[_image(kind)] = plot(title, (unit, "seconds"), _series(points))
    return found


def _series(points: list[Mapping[str, Any]]) -> dict[str, list[Point]]:
    series: dict[str, list[Point]] = {}
    for point in points:
        for name, run in point["runs"].items():
            low, high = min(run["seconds"]), max(run["seconds"])
            series.setdefault(name, []).append(Point(point["x"], median(run), low, high))
    return series


def _image(kind: str) -> str:
    return f"files-{kind}.svg"
