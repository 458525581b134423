"""The page of figures about files: made from its JSON, by code that can say no."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import commands as c
import pytest
from budget_rows import budgets, text
from budgets import FIGURES, figures
from copying import COPY, LOAD, SWAP
from files_page import images, lines, write_page
from measure import Runs
from plots import Axis, Point, plot

SVG = "{http://www.w3.org/2000/svg}"


def run(seconds: float, peak: int = 30_000_000, written: int = 0) -> dict[str, Any]:
    spread = [seconds * 1.5, seconds, seconds * 0.5]
    return {"seconds": spread, "peak_bytes": peak, "written_bytes": written}


def document() -> dict[str, Any]:
    """Figures that meet every budget, each just."""
    common = {"date": "2026-11-28", "machine": "a machine"}
    swap = run(1.1, 80_000_000)
    copied = {SWAP: swap, COPY: run(1.0), LOAD: run(2.2, 1_600_000_000)}
    names = (c.PASS, c.FEW, *c.HEADERS_ONLY)
    runs = {name: run(0.1, 192_000_000) for name in names} | {c.MANY: run(1.1, 192_000_000)}
    runs |= {c.HELP: run(0.2), c.BARE: run(0.35), c.IMPORTS: run(0.1, 16_000_000)}
    return {
        "copying": {**common, "gigabytes": 2.0, "runs": copied},
        "commands": {**common, "tensors": 100_000, "runs": runs},
        "parsing": {
            **common,
            "bytes": 25_000_000,
            "runs": {"tensors": run(3.0, 414_000_000), c.READ: run(0.1)},
        },
        "in place": {**common, "gigabytes": 2.0, "runs": {c.IN_PLACE: run(0.1, 1, 262_144)}},
        "size": {**common, "points": [{"x": x, "runs": copied} for x in (0.1, 16.0)]},
    }


def test_what_just_meets_its_budget_is_met() -> None:
    rows = budgets(document())
    assert [row.what for row in rows if not row.met] == []
    assert len(rows) == 17
    assert all(line.endswith("yes") for line in list(text(rows))[1:])


WORSE: dict[str, tuple[tuple[str, ...], float, int]] = {
    "swap slower": (("copying", "runs", SWAP, "seconds"), 1.2, 2),
    "swap uses more": (("copying", "runs", SWAP, "peak_bytes"), 1.01, 2),
    "load faster": (("copying", "runs", LOAD, "seconds"), 0.9, 1),
    "a large file uses more": (("size", "points", "1", "runs", SWAP, "peak_bytes"), 1.5, 1),
    "in place writes more": (("in place", "runs", c.IN_PLACE, "written_bytes"), 1.1, 1),
    "help slower": (("commands", "runs", c.HELP, "seconds"), 1.1, 1),
    "bare slower": (("commands", "runs", c.BARE, "seconds"), 1.1, 1),
    "many slower": (("commands", "runs", c.MANY, "seconds"), 1.1, 1),
    "dry run uses more": (("commands", "runs", c.ONE_DRY, "peak_bytes"), 1.1, 1),
    "parsing slower": (("parsing", "runs", "tensors", "seconds"), 1.1, 1),
    "parsing uses more": (("parsing", "runs", "tensors", "peak_bytes"), 1.1, 1),
}


@pytest.mark.parametrize("name", WORSE)
def test_what_is_worse_is_not_met(name: str) -> None:
    (*path, last), factor, missed = WORSE[name]
    found = json.loads(json.dumps(document()))
    place: Any = found
    for key in path:
        place = place[int(key) if isinstance(place, list) else key]
    value = place[last]
    place[last] = [v * factor for v in value] if isinstance(value, list) else value * factor
    rows = budgets(found)
    assert sum(row.met is False for row in rows) == missed
    assert sum("| no |" in line for line in lines(found)) == missed


def test_what_was_not_measured_is_not_called_met() -> None:
    rows = budgets({})
    assert {row.met for row in rows} == {None}
    assert all(line.endswith("not measured") for line in list(text(rows))[1:])


def test_the_page_and_its_plots_belong_to_their_figures() -> None:
    kept = json.loads(FIGURES.read_text("utf-8"))
    assert FIGURES.with_suffix(".md").read_text("utf-8") == "\n".join(lines(kept)) + "\n"
    made = images(kept)
    assert made.keys() == {"files-size.svg", "files-tensors.svg", "files-shards.svg"}
    for name, image in made.items():
        assert (FIGURES.parent / "images" / name).read_text("utf-8") == image
    other = json.loads(FIGURES.read_text("utf-8"))
    other["copying"]["runs"][SWAP]["seconds"] = [1234.5]
    assert list(lines(other)) != list(lines(kept))


def test_it_is_written_beside_the_figures(tmp_path: Path) -> None:
    write_page(document(), tmp_path / "x.json")
    assert {p.name for p in tmp_path.rglob("*.*")} == {"x.md", "files-size.svg"}


def test_runs_become_json() -> None:
    runs = Runs([1.23456, 2.0], 3, 4)
    expected = {"seconds": [1.2346, 2.0], "peak_bytes": 3, "written_bytes": 4}
    assert figures({"a": runs}) == {"a": expected}


def test_an_axis_is_logarithmic() -> None:
    axis = Axis.of("x", [0.2, 5, 30], 100, 400)
    assert axis.ticks == [0.1, 1, 10, 100]
    assert [axis.at(tick) for tick in axis.ticks] == pytest.approx([100, 200, 300, 400])
    assert Axis.of("x", [10, 10], 0, 1).ticks == [10, 100]


def test_a_plot_holds_every_point_where_it_belongs() -> None:
    lines_ = {
        "a <b>": [Point(1, 1, 0.5, 2), Point(10, 100, 90, 110)],
        "c": [Point(10, 10, 10, 10)],
    }
    root = ET.fromstring(plot("T & U", ("x", "y"), lines_))  # noqa: S314 - our own text
    texts = [e.text for e in root.iter(f"{SVG}text")]
    assert {"T & U", "x", "y", "a <b>", "c", "0.1", "1", "10", "100"} <= set(texts)
    points = [e for e in root.iter(f"{SVG}circle") if e.get("r") == "3.5"]
    assert [(e.get("cx"), e.get("cy")) for e in points] == [
        ("70.0", "272.5"),
        ("490.0", "117.5"),
        ("490.0", "195.0"),
    ]
    colours = re.findall(r'polyline .* stroke="(#\w+)"', plot("T", ("x", "y"), lines_))
    assert len(set(colours)) == 2
