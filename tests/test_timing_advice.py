"""From figures to advice: made-up figures, each with the answer that it has to have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsurgeon.timing import Spread, Timing, advise
from tests.timing_cases import advised, made_up

FORMS = ("conv", "channels-last", "gemm", "linear")
SECONDS = st.floats(1e-6, 1.0)


def medians(conv: float, channels: float, gemm: float, linear: float) -> dict[str, float | None]:
    return dict(zip(FORMS, (conv, channels, gemm, linear), strict=True))


@pytest.mark.parametrize(
    ("conv", "channels", "gemm", "linear", "width", "form", "rival"),
    [
        # Clearly faster, and which of those that are.
        (10, 9, 4, 3, 0.5, "linear", "linear"),
        (10, 9, 3, 4, 0.5, "gemm", "gemm"),
        (10, 2, 4, 4, 0.5, "channels-last", "channels-last"),
        # As fast as the fastest within the spread: the preferred one.
        (10, 9, 3, 3.4, 0.5, "linear", "linear"),
        (10, 3, 3.4, 9, 0.5, "gemm", "gemm"),
        # The gain is the spread, or less: keep the conv.
        (10, 10, 10, 8, 2.0, "conv", "linear"),
        (10, 10, 10, 7.9, 2.0, "linear", "linear"),
        (10, 11, 12, 13, 0.0, "conv", "channels-last"),
        (10, 10, 10, 10, 0.0, "conv", "channels-last"),
    ],
)
def test_advice(
    conv: float, channels: float, gemm: float, linear: float, width: float, form: str, rival: str
) -> None:
    advice = advised(medians(conv, channels, gemm, linear), width)
    assert (advice.form, advice.rival) == (form, rival)
    other = medians(conv, channels, gemm, linear)[rival]
    assert other is not None
    assert advice.gain == pytest.approx(conv - other)
    assert advice.ratio == pytest.approx(conv / other)
    assert advice.spread == pytest.approx(width)


def test_the_wider_spread_counts() -> None:
    wide = Spread(10.0, 6.0, 14.0, 30, 1)
    narrow = Spread(5.0, 4.9, 5.1, 30, 1)
    for conv, linear in (
        (wide, narrow),
        (Spread(10.0, 9.9, 10.1, 30, 1), Spread(5.0, 1, 9, 30, 1)),
    ):
        rows = [Timing("conv", "map", "forward", conv), Timing("linear", "map", "forward", linear)]
        (advice,) = advise(rows)
        assert advice.form == "conv"
        assert advice.spread == 8.0


@pytest.mark.parametrize(
    ("found", "rounds", "says"),
    [
        ({"conv": None, "linear": 1.0}, 30, "the conv was not timed"),
        ({"conv": 1.0, "linear": None}, 30, "no other form was timed"),
        ({"conv": 9.0, "linear": 1.0}, 4, "fewer than 5 rounds"),
    ],
)
def test_figures_that_do_not_tell(found: dict[str, float | None], rounds: int, says: str) -> None:
    advice = advised(found, rounds=rounds)
    assert says in advice.note
    assert (advice.form, advice.rival, advice.gain, advice.ratio) == (None, None, None, None)


def test_five_rounds_tell() -> None:
    assert advised({"conv": 9.0, "linear": 1.0}, rounds=5).form == "linear"


def test_a_form_that_cannot_run_is_left_out() -> None:
    advice = advised({"conv": 9.0, "channels-last": None, "gemm": 1.0, "linear": None})
    assert advice.form == "gemm"


def test_outputs_and_passes_are_judged_apart_and_the_limit_is_no_form() -> None:
    slow, fast = medians(1, 2, 3, 4), medians(4, 3, 2, 1)
    rows = [
        *made_up(slow),
        *made_up(fast, output="tokens"),
        *made_up({"product": 0.1}, output="tokens"),
        *made_up(fast, passes="forward+backward"),
    ]
    found = {(a.output, a.passes): a.form for a in advise(rows)}
    assert found == {
        ("map", "forward"): "conv",
        ("tokens", "forward"): "linear",
        ("map", "forward+backward"): "linear",
    }
    assert advise([]) == ()


@given(SECONDS, SECONDS, SECONDS, SECONDS, st.floats(0, 1.0))
def test_what_is_advised_is_faster_by_more_than_the_spread(
    conv: float, channels: float, gemm: float, linear: float, width: float
) -> None:
    found = medians(conv, channels, gemm, linear)
    advice = advised(found, width)
    others = [value for form, value in found.items() if form != "conv" and value is not None]
    assert advice.gain is not None
    assert advice.spread is not None
    assert (advice.form == "conv") == (conv - min(others) <= advice.spread)
    if advice.form != "conv":
        assert advice.form == advice.rival
        assert advice.gain > advice.spread


@given(st.lists(SECONDS, min_size=1, max_size=9))
def test_quartiles_lie_around_the_median(samples: list[float]) -> None:
    found = Spread.of(samples, 3)
    assert min(samples) <= found.lower <= found.median <= found.upper <= max(samples)
    assert (found.rounds, found.calls) == (len(samples), 3)
    assert found.width == found.upper - found.lower


def test_quartiles_of_known_samples() -> None:
    assert Spread.of([5.0, 1.0, 2.0, 4.0, 3.0], 1) == Spread(3.0, 2.0, 4.0, 5, 1)
    assert Spread.of([7.0], 1) == Spread(7.0, 7.0, 7.0, 1, 1)
