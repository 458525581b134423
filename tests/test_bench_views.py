"""How `bench` reports look at 80 and 200 columns and in Markdown; figures are made up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsurgeon.plan import Failure
from convsurgeon.report.bench_markdown import bench_as_markdown
from convsurgeon.report.bench_words import advice_text, blocks, names, seconds
from convsurgeon.timing import Advice, BenchFile, BenchReport, Setup
from tests.cli_helpers import check_snapshot, shown
from tests.timing_cases import ENVIRONMENT, advised, report, timed

WIDTHS = (80, 200)
FAILED = Failure("gone.safetensors", "UnreadableError", "CS030", "gone.safetensors: not there")


@pytest.mark.parametrize("width", WIDTHS)
def test_snapshots(width: int) -> None:
    text = shown(report(), width)
    assert max(map(len, text.splitlines())) <= width
    check_snapshot(f"bench.{width}.txt", text)


def test_markdown_snapshot() -> None:
    check_snapshot("bench.md", bench_as_markdown(report()))


def test_failures_are_shown() -> None:
    failed = BenchReport(ENVIRONMENT, Setup(), (), errors=(FAILED,))
    assert failed.exit_code() == 3
    assert "failed: gone.safetensors: not there" in shown(failed)
    assert "- failed: gone.safetensors: not there" in bench_as_markdown(failed)


def test_names_are_folded_never_cut() -> None:
    name = "n" * 200
    file = BenchFile("m" * 200, (timed(name, [{"conv": 1.0, "linear": 1.0}]),))
    for width in (40, *WIDTHS):
        text = shown(BenchReport(ENVIRONMENT, Setup(), (file,)), width)
        assert text.count("n" * 10) >= 1
        joined = "".join(text.split()).replace("│", "").replace("└──", "")
        assert name in joined
        assert "m" * 200 in joined


def test_the_advised_row_is_marked() -> None:
    medians = {"conv": 9.0, "channels-last": 8.0, "gemm": 1.0, "linear": 4.0}
    (block,) = blocks(timed("a", [medians]))
    assert block.chosen is not None
    assert block.rows[block.chosen][0] == "gemm"
    (kept,) = blocks(timed("a", [{"conv": 1.0, "linear": 4.0}]))
    assert kept.chosen == 0
    (unknown,) = blocks(timed("a", [{"conv": 1.0, "linear": 4.0}], rounds=2))
    assert unknown.chosen is None


def test_speed_and_limit_are_ratios_of_medians() -> None:
    first, second = blocks(
        timed("a", [{"conv": 8.0, "linear": 2.0}, {"conv": 8.0, "product": 1.6}])
    )
    assert [row[0::3] for row in first.rows] == [("conv", "1.00×"), ("linear", "4.00×")]
    assert [row[4] for row in first.rows] == ["5.00×", "1.25×"]
    assert [row[0] for row in second.rows] == ["conv", "bare product"]
    (alone,) = blocks(timed("a", [{"conv": None, "linear": 2.0}]))
    assert [(row[3], row[4]) for row in alone.rows] == [("", "")]


def test_advice_in_words() -> None:
    assert advice_text(advised({"conv": 8.0, "linear": 2.0}, 0.5)) == (
        "use linear: 4.00× as fast, 6.00 s less, spread 500 ms"
    )
    assert advice_text(advised({"conv": 2.0, "linear": 4.0}, 0.5)) == (
        "keep the conv: linear is 0.50× as fast, 2.00 s more, spread 500 ms"
    )
    assert advice_text(advised({"conv": 2.0, "gemm": 1.9}, 0.5)) == (
        "keep the conv: gemm is 1.05× as fast, 100 ms less, spread 500 ms"
    )
    note = Advice("map", "forward", None, note="too\nfew")
    assert advice_text(note) == r"no advice: too\x0afew"


def test_names() -> None:
    assert names(["a.0.b", "a.1.b", "a.2.b", "stem"]) == "a.{0…2}.b, stem"
    assert names(["x\x1b[1m"]) == r"x\x1b[1m"
    assert names([""]) == "(root)"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0 s"), (3.09e-4, "309 µs"), (1.234e-2, "12.3 ms"), (1.0234, "1.02 s"), (123.4, "123 s"),
     (5e-7, "0.50 µs"), (1e-6, "1.00 µs"), (9.994e-4, "999 µs"), (1e-3, "1.00 ms")],
)  # fmt: skip
def test_times(value: float, text: str) -> None:
    assert seconds(value) == text


@given(st.floats(1e-9, 1e6))
def test_times_keep_their_value(value: float) -> None:
    number, unit = seconds(value).split()
    scale = {"µs": 1e-6, "ms": 1e-3, "s": 1.0}[unit]
    assert float(number) * scale == pytest.approx(value, rel=6e-3, abs=6e-9)
