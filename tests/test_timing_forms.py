"""All forms compute the same before they are timed; one that does not is caught."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from convsurgeon.errors import NotEquivalentError
from convsurgeon.nn import PatchLinear
from convsurgeon.timing import Setup, Timing
from convsurgeon.timing import forms as module
from convsurgeon.timing.check import check, exact_values
from convsurgeon.timing.forms import FORMS, Form, as_tokens, make_conv
from convsurgeon.timing.measure import time_subject
from convsurgeon.timing.subjects import Subject
from tests.timing_cases import QUICK, subject

CPU = torch.device("cpu")
KEYS = [(form, output) for form in FORMS for output in ("map", "tokens") if form != "product"]
KEYS += [("product", "tokens")]
SIZES = st.integers(1, 4)


@st.composite
def subjects(draw: st.DrawFn) -> Subject:
    kernel = tuple(draw(st.lists(SIZES, min_size=1, max_size=3)))
    spatial = tuple(k * draw(SIZES) + draw(st.integers(0, k - 1)) for k in kernel)
    dtype = draw(st.sampled_from(["F64", "F32", "BF16", "F16"]))
    channels, out = draw(st.integers(1, 40)), draw(st.integers(1, 5))
    return subject(
        kernel, spatial, channels=channels, out=out, dtype=dtype, bias=draw(st.booleans())
    )


@settings(max_examples=40)
@given(subjects(), st.integers(1, 3))
def test_every_form_computes_exactly_the_same(found: Subject, batch: int) -> None:
    dtype = getattr(torch, found.dtype_in(None))
    conv = make_conv(found, CPU, dtype)
    x = torch.empty((batch, found.weight_shape[1], *found.spatial), dtype=dtype)
    expected = exact_values(found, conv, x)
    compared = 0
    for make in FORMS.values():
        try:
            form = make(conv, x)
        except module.Missing:
            assert found.form == "conv1d"
            continue
        for output, consume in form.outputs.items():
            with torch.no_grad():
                check(form.name, output, consume(form.module(form.x)), expected)
            compared += 1
    assert compared == (7 if found.form == "conv1d" else 9)


def test_the_values_of_the_check_round_nowhere() -> None:
    """Magnitudes add up to less than 256, also where a window has thousands of inputs."""
    large = subject((16, 16), (64, 64), channels=32, out=2)
    conv = make_conv(large, CPU, torch.float32)
    x = torch.empty(2, 32, 64, 64)
    expected = exact_values(large, conv, x)
    weight, bias = (p.detach() for p in conv.parameters())
    most = nn.functional.conv2d(x.abs(), weight.abs(), bias.abs(), stride=16).max()
    assert 30 < float(most) < 256
    assert set(weight.flatten().tolist()) == {-1.0, 1.0}
    assert set(x.flatten().tolist()) == {-1.0, 0.0, 1.0}
    assert len(set(expected.flatten().tolist())) > 10
    assert torch.equal(expected, expected.to(torch.bfloat16).float())


class Wrong(nn.Module):
    """A form with one change of what goes in, of a weight, or of what comes out."""

    def __init__(self, conv: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.change = PatchLinear.from_conv(conv), change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(self.inner(x))


class OneWeight(nn.Module):
    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.inner = PatchLinear.from_conv(conv)
        weight = self.inner.linear.weight.detach().clone()
        weight[1, 5] = -weight[1, 5]
        self.inner.linear.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.inner(x)
        return out


def other_layout(conv: nn.Module) -> nn.Module:
    right = PatchLinear.from_conv(conv)
    wrong = PatchLinear(3, 4, (2, 2), layout="p1 p2 c")
    wrong.linear = right.linear
    return wrong


WRONG: dict[str, Callable[[nn.Module], nn.Module]] = {
    "one weight of 48": OneWeight,
    "the other layout": other_layout,
    "one unit": lambda conv: Wrong(conv, lambda y: y + 1),
    "one output": lambda conv: Wrong(conv, _one_changed),
    "no number": lambda conv: Wrong(conv, lambda y: y * float("nan")),
    "axes exchanged": lambda conv: Wrong(conv, lambda y: y.transpose(-1, -2)),
    "a row too few": lambda conv: Wrong(conv, lambda y: y[..., 1:, :]),
}


def _one_changed(y: Tensor) -> Tensor:
    y = y.clone()
    y.flatten()[7] += 1
    y[0, 1, 0, 0] -= 2
    return y


@pytest.mark.parametrize("wrong", WRONG)
def test_a_broken_form_is_caught(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(conv: nn.Module, x: Tensor) -> Form:
        return Form("linear", WRONG[wrong](conv), x, module._BOTH)

    found = subject((2, 2), (8, 6))
    assert time_subject(found, QUICK)
    monkeypatch.setattr("convsurgeon.timing.measure.FORMS", {**FORMS, "linear": broken})
    with pytest.raises(NotEquivalentError, match="linear does not compute") as raised:
        time_subject(found, QUICK)
    assert raised.value.code == "CS086"
    assert raised.value.exit_code == 1


def test_the_smallest_difference_counts() -> None:
    expected = torch.zeros(1, 4, 2, 2)
    check("gemm", "map", expected.to(torch.bfloat16), expected)
    check("gemm", "tokens", as_tokens(expected), expected)
    for output, given_ in (("map", expected + 1e-30), ("tokens", expected), ("map", expected[0])):
        with pytest.raises(NotEquivalentError, match="gemm"):
            check("gemm", output, given_, expected)


def test_a_kernel_that_is_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refuses(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise NotImplementedError('"slow_conv" not implemented for this\nC++ trace')

    def refused(_conv: nn.Module, x: Tensor) -> Form:
        return Form("conv", Refuses(), x, module._BOTH)

    monkeypatch.setattr("convsurgeon.timing.measure.FORMS", {**FORMS, "conv": refused})
    rows = time_subject(subject(), QUICK)
    notes = {(row.form, row.output): row.note for row in rows if row.seconds is None}
    text = 'cannot be run here: "slow_conv" not implemented for this'
    assert notes == {("conv", "map"): text, ("conv", "tokens"): text}


def test_our_own_defects_are_not_taken_for_missing_kernels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Defect(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise TypeError("wrong")

    def defect(_conv: nn.Module, x: Tensor) -> Form:
        return Form("conv", Defect(), x, module._BOTH)

    monkeypatch.setattr("convsurgeon.timing.measure.FORMS", {**FORMS, "conv": defect})
    with pytest.raises(TypeError, match="wrong"):
        time_subject(subject(), QUICK)


def test_the_forms_are_what_they_are_called() -> None:
    conv = make_conv(subject(), CPU, torch.float32)
    x = torch.ones(2, 3, 4, 6)
    made: dict[str, Any] = {name: make(conv, x) for name, make in FORMS.items()}
    kinds = {name: type(form.module).__name__ for name, form in made.items()}
    assert kinds == {
        "conv": "Conv2d",
        "channels-last": "Conv2d",
        "gemm": "GemmConv2d",
        "linear": "PatchLinear",
        "product": "Linear",
    }
    last = made["channels-last"]
    for tensor in (last.x, last.module.weight):
        assert tensor.is_contiguous(memory_format=torch.channels_last)
        assert not tensor.is_contiguous()
    assert made["conv"].x.is_contiguous()
    patches = made["product"].x
    assert (tuple(patches.shape), patches.is_contiguous()) == ((2, 6, 12), True)
    assert made["gemm"].module.weight is conv.weight


def test_tokens_are_contiguous_and_free_for_the_replacements() -> None:
    conv = make_conv(subject(), CPU, torch.float32)
    x = torch.ones(2, 3, 4, 6)
    for name, free in (("conv", False), ("gemm", True), ("linear", True)):
        y = FORMS[name](conv, x).module(x)
        tokens = as_tokens(y)
        assert tokens.is_contiguous()
        assert (tokens.data_ptr() == y.data_ptr()) == free


def rows_of(found: tuple[Timing, ...]) -> list[tuple[str, str]]:
    return [(row.form, row.output) for row in found]


def test_every_form_has_its_rows() -> None:
    assert rows_of(time_subject(subject(), QUICK)) == KEYS


def test_one_axis_has_no_channels_last() -> None:
    rows = time_subject(subject((2,), (9,)), Setup(rounds=1, backward=True))
    assert rows_of(rows)[::2] == KEYS
    untimed = [row for row in rows if row.seconds is None]
    assert {row.form for row in untimed} == {"channels-last"}
    assert {(row.output, row.passes) for row in untimed} == {
        (output, passes)
        for output in ("map", "tokens")
        for passes in ("forward", "forward+backward")
    }
    assert all("channels-last" in row.note for row in untimed)


def test_global_random_numbers_stay_where_they_are() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    time_subject(subject(), Setup(rounds=1, backward=True))
    assert torch.equal(torch.get_rng_state(), before)
