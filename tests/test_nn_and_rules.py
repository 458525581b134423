"""The drop-ins and the rules say apart, and must say alike, which convolution is a patchify."""

from __future__ import annotations

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


def test_the_border_has_two_sides() -> None:
    exact, overlapping = nn.Conv2d(3, 4, 2, 2), nn.Conv2d(3, 4, 2, 1)
    assert inexact(exact) is None
    assert inexact(overlapping) is not None
