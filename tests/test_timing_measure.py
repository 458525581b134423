"""How figures come about: turns, warm-up, devices, memory, gradients, compilation."""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convsurgeon.errors import RefusedError, UsageError
from convsurgeon.timing import Setup, Timing, measure
from convsurgeon.timing import device as devices
from convsurgeon.timing.compiling import compiler_trouble
from convsurgeon.timing.device import KINDS, device_of, environment
from convsurgeon.timing.forms import FORMS, Form
from convsurgeon.timing.measure import time_subject
from convsurgeon.timing.run import prepared
from tests.timing_cases import QUICK, subject


class Clock:
    """A clock that only calls move on: a form takes what the test says."""

    def __init__(self, seconds: Callable[[str], float]) -> None:
        self.now, self.seconds = 0.0, seconds
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.now

    def tick(self, form: str) -> None:
        self.calls.append(form)
        self.now += self.seconds(form)


class Ticking(nn.Module):
    def __init__(self, inner: nn.Module, clock: Clock, name: str) -> None:
        super().__init__()
        self.inner, self.clock, self.name = inner, clock, name

    def forward(self, x: Tensor) -> Tensor:
        self.clock.tick(self.name)
        out: Tensor = self.inner(x)
        return out


def clocked(monkeypatch: pytest.MonkeyPatch, seconds: Callable[[str], float]) -> Clock:
    """Have every form tick instead of taking time."""
    clock = Clock(seconds)

    def ticking(name: str) -> Callable[[nn.Module, Tensor], Form]:
        def make(conv: nn.Module, x: Tensor) -> Form:
            form = FORMS[name](conv, x)
            return Form(name, Ticking(form.module, clock, name), form.x, form.outputs)

        return make

    monkeypatch.setattr(measure, "FORMS", {name: ticking(name) for name in FORMS})
    monkeypatch.setattr(measure, "perf_counter", clock)
    return clock


def test_forms_take_turns_and_the_figures_are_those_of_the_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    takes = {"conv": 5e-3, "channels-last": 4e-3, "gemm": 3e-3, "linear": 2.5e-3, "product": 1.5e-3}
    clock = clocked(monkeypatch, lambda form: takes[form])
    rows = time_subject(subject(), Setup(rounds=7, seconds=1e9))
    assert {row.form: round(row.seconds.median, 9) for row in rows if row.seconds} == takes
    calls = {row.form: row.seconds.calls for row in rows if row.seconds}
    assert calls == {**dict.fromkeys(takes, 1), "product": 2}
    assert all(row.seconds and row.seconds.rounds == 7 for row in rows)
    turns = [form for form in takes for _ in range(2) if form != "product"] + ["product"]
    rotated = [turns[n:] + turns[:n] for n in range(7)]
    expected = [form for one in rotated for form in one for _ in range(calls[form])]
    after = len(turns)  # a call of each for its memory
    assert clock.calls[-after - len(expected) : -after] == expected


def test_a_slow_minute_hits_all_forms_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine is ten times slower in the middle of the run: ratios of medians stay."""
    ticks = itertools.count()

    def seconds(form: str) -> float:
        return (2e-3 if form == "conv" else 4e-3) * (10 if 60 < next(ticks) < 120 else 1)

    clocked(monkeypatch, seconds)
    found = {row.form: row.seconds for row in time_subject(subject(), Setup(rounds=15))}
    conv, linear = found["conv"], found["linear"]
    assert conv is not None
    assert linear is not None
    assert linear.median == pytest.approx(2 * conv.median)


@pytest.mark.parametrize(
    ("rounds", "seconds", "made"), [(3, 1e-6, 3), (9, 1e-6, 5), (9, 0.2, 7), (9, 1e9, 9)]
)
def test_rounds_end_with_the_time_but_not_before_advice_is_possible(
    rounds: int, seconds: float, made: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocked(monkeypatch, lambda _: 1e-2 / 3)  # nine calls in a round: 0.03
    rows = time_subject(subject(), Setup(rounds=rounds, seconds=seconds))
    assert {row.seconds.rounds for row in rows if row.seconds} == {made}


def test_short_calls_are_put_together(monkeypatch: pytest.MonkeyPatch) -> None:
    clocked(monkeypatch, lambda form: 1.3e-4 if form == "conv" else 1e-8)
    calls = {row.form: row.seconds.calls for row in time_subject(subject(), QUICK) if row.seconds}
    assert calls == {"conv": 16, **{form: 1000 for form in FORMS if form != "conv"}}


def test_what_is_timed_is_what_was_checked_with_ordinary_values(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forms: list[Form] = []

    def kept(name: str) -> Callable[[nn.Module, Tensor], Form]:
        def make(conv: nn.Module, x: Tensor) -> Form:
            form = FORMS[name](conv, x)
            assert set(form.x.flatten().tolist()) <= {-1.0, 0.0, 1.0}
            forms.append(form)
            return form

        return make

    monkeypatch.setattr(measure, "FORMS", {name: kept(name) for name in FORMS})
    time_subject(subject(), QUICK)
    assert len(forms) == 5
    for form in forms:
        for tensor in (form.x, *form.module.parameters()):
            assert tensor.isfinite().all()
            assert not (tensor == tensor.round()).any()


def test_gradients_are_those_of_the_weights_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[bool] = set()
    real = torch.autograd.grad

    def grad(y: Tensor, weights: list[Tensor], gradient: Tensor) -> object:
        assert gradient.shape == y.shape
        assert {len(w) for w in weights} == {4}
        seen.add(y.requires_grad)
        return real(y, weights, gradient)

    monkeypatch.setattr(torch.autograd, "grad", grad)
    time_subject(subject(), QUICK)
    assert not seen
    rows = time_subject(subject(), Setup(rounds=1, backward=True))
    assert seen == {True}
    assert [row.passes for row in rows] == ["forward", "forward+backward"] * 9
    assert all(row.seconds for row in rows)


def test_memory_of_a_call_on_the_cpu() -> None:
    rows = {
        (row.form, row.output): row.peak_bytes
        for row in time_subject(subject((4, 4), (64, 64), out=48), QUICK)
    }
    output, patches = 4 * 48 * 16 * 16, 4 * 64 * 64 * 3
    assert rows["product", "tokens"] == output
    for key in (("linear", "map"), ("linear", "tokens"), ("gemm", "map"), ("gemm", "tokens")):
        assert rows[key] == output + patches
    copied = rows["conv", "tokens"]
    assert copied is not None
    assert copied >= 2 * output


def test_memory_that_is_given_back_does_not_add_up() -> None:
    def call() -> Tensor:
        for _ in range(3):
            torch.empty(1000, dtype=torch.float32)
        return torch.empty(10, dtype=torch.float32)

    assert KINDS["cpu"].peak(torch.device("cpu"), call) == (4000, "")
    assert KINDS["cpu"].peak(torch.device("cpu"), lambda: None) == (0, "")


def test_nothing_appears_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    KINDS["cpu"].peak(torch.device("cpu"), lambda: torch.empty(3))
    sys.stderr.write("still heard\n")
    assert capfd.readouterr().err == "still heard\n"


def fake(*, here: bool = True) -> devices.Kind:
    def peak(_device: torch.device, _call: Callable[[], object]) -> tuple[int | None, str]:
        return None, "not counted"

    return devices.Kind(lambda: here, lambda _: None, peak, lambda _: "made up")


@pytest.mark.parametrize(
    ("there", "chosen"), [((), "cpu"), (("mps",), "mps"), (("cuda", "mps"), "cuda")]
)
def test_the_best_device_is_the_default(
    there: tuple[str, ...], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {"cpu": fake(), "cuda": fake(here="cuda" in there), "mps": fake(here="mps" in there)}
    monkeypatch.setattr(devices, "KINDS", kinds)
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)
    assert device_of(None) == chosen


@pytest.mark.parametrize("name", ["abc", "cuda", "cuda:7", "mps", "meta", "xla", "cpu:x"])
def test_a_device_that_is_not_here(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        devices, "KINDS", {**KINDS, "cuda": fake(here=False), "mps": fake(here=False)}
    )
    with pytest.raises(UsageError, match=name) as raised:
        device_of(name)
    assert (raised.value.code, raised.value.where) == ("CS090", "--device")
    assert "\n" not in str(raised.value)


def test_a_card_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def zeros(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: invalid device ordinal\nfurther lines")

    monkeypatch.setattr(devices, "KINDS", {**KINDS, "cuda": fake()})
    monkeypatch.setattr(torch, "zeros", zeros)
    with pytest.raises(UsageError, match="invalid device ordinal") as raised:
        device_of("cuda:7")
    assert "further" not in str(raised.value)


def test_each_sample_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was launched before must not count, and what was launched must be done."""
    clock = clocked(monkeypatch, lambda _: 3e-3)
    waits: list[int] = []
    kind = devices.Kind(
        lambda: True, lambda _: waits.append(len(clock.calls)), fake().peak, lambda _: ""
    )
    monkeypatch.setattr(measure, "KINDS", {"cpu": kind})
    rows = time_subject(subject(), Setup(rounds=2))
    checked = 2 * len(rows)
    calls = [checked + n for n in range(5 * len(rows))]
    assert waits == [number for call in calls for number in (call, call + 1)]
    assert {(row.peak_bytes, row.note) for row in rows} == {(None, "not counted")}


def test_peaks_on_cuda_are_those_of_its_allocator(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[object] = []
    held = {"now": 100, "peak": 900}

    def reset(_: object) -> None:
        held["peak"] = held["now"]

    def call() -> None:
        held["peak"] = 130
        log.append("called")

    for name, work in {
        "synchronize": lambda _: log.append("waited"),
        "memory_allocated": lambda _: held["now"],
        "max_memory_allocated": lambda _: held["peak"],
        "reset_peak_memory_stats": reset,
    }.items():
        monkeypatch.setattr(torch.cuda, name, work)
    assert KINDS["cuda"].peak(torch.device("cpu"), call) == (30, "")
    assert log == ["waited", "called", "waited"]
    assert KINDS["mps"].peak(torch.device("cpu"), call)[0] is None


def test_the_environment_is_the_one_here() -> None:
    found = environment("cpu")
    assert (found.device, found.torch) == ("cpu", torch.__version__)
    assert found.threads == torch.get_num_threads()
    assert all(found.to_json().values())


def test_without_torch_the_code_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(RefusedError, match="timing layers needs torch") as raised:
        device_of("cpu")
    assert raised.value.code == "CS052"


def test_an_input_that_does_not_fit() -> None:
    huge = subject((1, 1), (2**20, 2**20), channels=2**10)
    with pytest.raises(UsageError, match="does not fit") as raised:
        time_subject(huge, Setup(batch=2**10))
    assert raised.value.code == "CS090"


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Capture whole graphs, and run them as they are."""
    made: list[Any] = []

    def backend(graph: Any, _inputs: object) -> Any:
        made.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    yield made
    torch._dynamo.reset()


def test_every_form_is_compiled_whole(graphs: list[Any]) -> None:
    rows = time_subject(subject(), Setup(rounds=1, backward=True, compiled=True))
    assert all(row.seconds for row in rows)
    # Each of nine functions with gradients and without; the check is run without.
    assert len(graphs) == 2 * 9
    operators = [{str(node.target) for node in graph.graph.nodes} for graph in graphs]
    assert any("conv2d" in target for targets in operators for target in targets)
    assert any("linear" in target for targets in operators for target in targets)
    count = len(graphs)
    time_subject(subject(), QUICK)
    assert len(graphs) == count


def test_without_a_compiler_nothing_is_compiled_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: object, **__: object) -> Callable[[Tensor], Tensor]:
        def run(_: Tensor) -> Tensor:
            raise RuntimeError("InvalidCxxCompiler: no compiler\nmuch more")

        return run

    asked = Setup(compiled=True)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    assert compiler_trouble("cpu") == ""
    assert prepared(asked) == (asked, ())
    assert prepared(QUICK) == (QUICK, ())
    monkeypatch.setattr(torch, "compile", refused)
    setup, notes = prepared(asked)
    assert not setup.compiled
    text = "nothing is compiled, torch.compile fails: InvalidCxxCompiler: no compiler"
    assert notes == (text,)


def test_figures_are_numbers_of_json() -> None:
    for row in time_subject(subject(), Setup(rounds=2, backward=True)):
        assert isinstance(row, Timing)
        document = row.to_json()
        assert math.isfinite(document["median"])
        assert document["quartiles"][0] <= document["median"] <= document["quartiles"][1]
        assert document["rounds"] == 2
