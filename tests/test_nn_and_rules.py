"""The drop-ins and the rules say apart, and must say alike, which convolution is a patchify."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from convsurgeon.nn.exact import inexact
from convsurgeon.rules import obstacles
from convsurgeon.sources.layers import examine

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@st.composite
def convs(draw: st.DrawFn) -> nn.Conv1d | nn.Conv2d | nn.Conv3d:
    """Any geometry near the border between what is exact and what is not."""
    axes = draw(st.integers(1, 3))

    def sizes(*values: int) -> tuple[int, ...]:
        return tuple(draw(st.sampled_from(values)) for _ in range(axes))

    kernel = sizes(1, 2, 3)
    stride = kernel if draw(st.booleans()) else sizes(1, 2, 3)
    plain = (0,) * axes, (1,) * axes
    padding, dilation = plain if draw(st.booleans()) else (sizes(0, 0, 1), sizes(1, 1, 2))
    groups = draw(st.sampled_from((1, 1, 2)))
    with torch.device("meta"):
        conv = CONVS[axes - 1]
        return conv(4, 4, kernel, stride, padding, dilation, groups)  # type: ignore[arg-type]


@given(convs())
def test_both_agree(conv: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> None:
    found = examine(torch, conv)[""]
    assert found.geometry is not None
    assert (inexact(conv) is None) == (obstacles(found.geometry) is None)


@pytest.mark.parametrize(
    ("name", "value", "there"),
    [
        *[("stride", value, True) for value in (2, (2,), [2, 2])],
        *[("padding", value, True) for value in (0, [0], "valid")],
        *[("dilation", value, True) for value in (1, [1, 1])],
        *[("stride", 1, False), ("padding", 1, False), ("padding", [1], False)],
        *[("dilation", 2, False), ("dilation", (2,), False)],
    ],
)
def test_a_size_that_somebody_set(name: str, value: object, *, there: bool) -> None:
    """Torch takes one number, or a list, where its own constructor leaves a tuple."""
    conv = nn.Conv2d(3, 4, 2, 2)
    setattr(conv, name, value)
    assert (inexact(conv) is None) == there
    found = examine(torch, conv)[""].geometry
    assert found is not None
    assert (obstacles(found) is None) == there


def test_what_pads_by_a_mode_was_worked_out_before() -> None:
    conv, other = (nn.Conv2d(3, 4, 2, 2, 1, padding_mode="reflect") for _ in range(2))
    conv.padding = (0, 0)
    assert conv(torch.zeros(1, 3, 4, 4)).shape == other(torch.zeros(1, 3, 4, 4)).shape
    assert inexact(conv) == "padding (0, 0) is not 0 in mode 'reflect'"
    refusal = examine(torch, conv)[""].refusal
    assert refusal is not None
    assert refusal.code == "CS013"
    late = nn.Conv2d(3, 4, 2, 2)
    late.padding_mode = "reflect"
    assert inexact(late) is None
    assert examine(torch, late)[""].refusal is None


def test_the_border_has_two_sides() -> None:
    exact, overlapping = nn.Conv2d(3, 4, 2, 2), nn.Conv2d(3, 4, 2, 1)
    assert inexact(exact) is None
    assert inexact(overlapping) is not None
