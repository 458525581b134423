"""The table of forward passes: made by the code of `bench`, and by nothing else."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from accuracy import put
from forward import CASES, Case, lines, measured

from convsurgeon.timing import Setup
from tests.timing_cases import timed

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks-forward.md"
QUICK = Setup(rounds=1, seconds=1e-6)


@pytest.mark.parametrize(
    "case", [Case((4, 3, 2, 2), 2, (5, 4)), Case((4, 3, 2), 1, (8,), bias=False)]
)
def test_a_case_is_measured_as_it_stands(case: Case) -> None:
    layer = measured("made up", case, "bfloat16", QUICK)
    assert (layer.modules, layer.dtype, layer.bias) == (("made up",), "bfloat16", case.bias)
    assert layer.weight_shape == case.weight
    assert layer.input_shape == (case.batch, case.weight[1], *case.spatial)
    assert layer.geometry.kernel == layer.geometry.stride == case.weight[2:]
    assert len(layer.timings) == 9
    head, rule, *rows = lines([layer])
    assert {line.count("|") for line in (head, rule, *rows)} == {12}
    assert [re.split(r" *\| *", row)[1] for row in rows] == ["made up"] * 2


def test_rows_hold_the_figures() -> None:
    as_map = {"conv": 8.0, "channels-last": 7.0, "gemm": 3.0, "linear": 2.0}
    layer = timed("p", [as_map, {**as_map, "conv": None, "product": 1.6}])
    _, _, first, second = lines([layer])
    cells = "8.00 ms | 7.00 ms | 3.00 ms | 2.00 ms"
    assert first.startswith(f"| p | 1×3×224×224 | float32 | map | {cells} | - | 1.25 | use linear")
    without = cells.replace("8.00 ms", "-")
    assert second.startswith(f"| p | 1×3×224×224 | float32 | tokens | {without} | 1.60 ms | 1.25 |")
    assert "no advice" in second


def test_the_cases_are_the_models_that_the_page_promises() -> None:
    for name in ("ViT-B/16", "DINOv2 g/14", "SD3 p2", "ConvNeXt", "Qwen2-VL"):
        assert any(name in case for case in CASES)
    assert all(
        size % kernel == 0
        for case in CASES.values()
        for size, kernel in zip(case.spatial, case.weight[2:], strict=True)
    )


def test_the_page_takes_a_table_and_holds_no_other_figures(tmp_path: Path) -> None:
    copy = tmp_path / PAGE.name
    shutil.copy(PAGE, copy)
    put(copy, "forward", ["| a table |"])
    assert "| a table |" in copy.read_text(encoding="utf-8")
    parts = re.split(r"<!-- (?:forward|end) -->\n", PAGE.read_text(encoding="utf-8"))
    assert len(parts) == 3
    assert not re.findall(r"\d ?(?:ms|µs|×|s\b)", parts[0] + parts[2])
