"""Which values come from a file, and whether two models are one, on modules made by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from convsurgeon.integrations.loaders import differences
from convsurgeon.integrations.loaders.provenance import left_over, made_up, repeatable

Fill = Callable[[], torch.Tensor]

FROM_FILE: dict[str, tuple[Fill, Fill]] = {
    "any values": (lambda: torch.tensor([1.5, 0.0, torch.nan]), lambda: torch.zeros(3)),
    "zeros": (lambda: torch.zeros(3), lambda: torch.zeros(3)),
    "through a function": (lambda: torch.tensor([1.5, 2.0]).log(), lambda: torch.zeros(2).log()),
    "half": (lambda: torch.ones(3).half(), lambda: torch.zeros(3).half()),
    "eight bits": (
        lambda: torch.ones(3).to(torch.float8_e4m3fn),
        lambda: torch.zeros(3).to(torch.float8_e4m3fn),
    ),
    "a counter": (lambda: torch.tensor(7), lambda: torch.tensor(7)),
}
MADE_UP: dict[str, Fill] = {
    "drawn": lambda: torch.randn(3),
    "ones": lambda: torch.ones(3),
    "drawn in part": lambda: torch.cat([torch.zeros(3), torch.randn(1)]),
    "unwritten": lambda: torch.empty(3),
    "eight bits": lambda: torch.randn(3).to(torch.float8_e4m3fn),
    "complex": lambda: torch.randn(3, dtype=torch.complex64),
    "without memory": lambda: torch.empty(3, device="meta"),
    "a scalar": lambda: torch.tensor(0.5),
}


def module(tensors: dict[str, torch.Tensor]) -> nn.Module:
    made = nn.Module()
    for name, tensor in tensors.items():
        made.register_buffer(name.replace(" ", "_"), tensor)
    return made


def loads(fills: dict[str, tuple[Fill, Fill]]) -> tuple[str, ...]:
    """What is said of a module loaded from a file, and from the same with zeros in it."""
    with repeatable():
        blank = module({name: fill() for name, (_, fill) in fills.items()})
    left = left_over(blank)
    with repeatable():
        real = module({name: fill() for name, (fill, _) in fills.items()})
    return made_up(real, left)


@given(st.sets(st.sampled_from(sorted(FROM_FILE))), st.sets(st.sampled_from(sorted(MADE_UP))))
def test_what_comes_from_elsewhere_is_named(good: set[str], bad: set[str]) -> None:
    fills = {f"file {name}": FROM_FILE[name] for name in sorted(good)}
    fills |= {f"else {name}": (MADE_UP[name], MADE_UP[name]) for name in sorted(bad)}
    assert sorted(loads(fills)) == sorted(f"else {name}".replace(" ", "_") for name in bad)


def test_a_tied_tensor_is_named_once() -> None:
    with repeatable():
        model = nn.Module()
        model.one = model.other = nn.Parameter(torch.randn(2))
    assert made_up(model, left_over(model)) == ("one",)


def test_state_that_is_no_tensor_is_let_be() -> None:
    class Extra(nn.Module):
        def get_extra_state(self) -> str:
            return "x"

    assert left_over(Extra()) == {}
    assert differences(Extra(), Extra()) == ()


def test_loads_repeat_and_the_caller_notices_nothing() -> None:
    state = torch.get_rng_state()
    drawn = []
    for _ in range(2):
        with repeatable():
            drawn.append((torch.randn(2), torch.empty(2)))
    assert torch.equal(drawn[0][0], drawn[1][0])
    assert all(empty.isnan().all() for _, empty in drawn)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(KeyError), repeatable():
        raise KeyError
    assert not torch.are_deterministic_algorithms_enabled()


NAN = torch.tensor([torch.nan, 1.0])
OTHER_NAN = torch.tensor([0x7FC00001, 0x3F800000], dtype=torch.int32).view(torch.float32)


@pytest.mark.parametrize(
    ("first", "second", "lines"),
    [
        ({"a": NAN}, {"a": NAN.clone()}, ()),
        ({"a": NAN}, {"a": OTHER_NAN}, ("a has other values than from the original",)),
        (
            {"a": torch.tensor(0.0)},
            {"a": torch.tensor(-0.0)},
            ("a has other values than from the original",),
        ),
        (
            {"a": torch.ones(4)},
            {"a": torch.ones(2, 2)},
            ("a has other values than from the original",),
        ),
        ({"a": torch.ones(2)}, {}, ("a is in the model of the original only",)),
        ({}, {"b": torch.ones(2)}, ("b is in the model of the swapped file only",)),
        ({"a": torch.ones(2, 3).t()}, {"a": torch.ones(3, 2)}, ()),
    ],
)
def test_differences(
    first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], lines: tuple[str, ...]
) -> None:
    assert differences(module(first), module(second)) == lines
