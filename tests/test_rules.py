"""One golden case per rule and per refusal, and the definition written a second time."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsurgeon.geometry import Geometry, Refusal
from convsurgeon.rearrangement import CHANNEL_FIRST, CHANNEL_LAST, LAYOUTS
from convsurgeon.rules import OBSTACLES, RULES, Layer, Rewrite, decide
from tests.strategies import counted, geometries

FIRST, LAST = CHANNEL_FIRST, CHANNEL_LAST


def geometry(kernel: tuple[int, ...], **changes: tuple[int, ...] | int) -> Geometry:
    return replace(Geometry.plain(kernel, kernel), **changes)  # type: ignore[arg-type] # fields of two types


# target, form, shape, geometry, layout -> rule, form afterwards, shape, whether bytes move
ACCEPTED = {
    "ViT": ("linear", "conv2d", (768, 3, 16, 16), geometry((16, 16)), FIRST,
            ("patchify", "linear", (768, 768), False)),
    "ViT, channels last": ("linear", "conv2d", (768, 3, 16, 16), geometry((16, 16)), LAST,
                           ("patchify", "linear", (768, 768), True)),
    "Qwen2-VL": ("linear", "conv3d", (1280, 3, 2, 14, 14), geometry((2, 14, 14)), FIRST,
                 ("patchify", "linear", (1280, 1176), False)),
    "audio": ("linear", "conv1d", (4, 1, 256), geometry((256,)), LAST,
              ("patchify", "linear", (4, 256), False)),
    "one long axis": ("linear", "conv2d", (4, 2, 1, 3), geometry((1, 3)), LAST,
                      ("patchify", "linear", (4, 6), True)),
    "dilation of a 1-axis": ("linear", "conv2d", (4, 2, 1, 3), geometry((1, 3), dilation=(5, 1)),
                             FIRST, ("patchify", "linear", (4, 6), False)),
    "1x1": ("linear", "conv2d", (8, 4, 1, 1), geometry((1, 1)), LAST,
            ("pointwise", "linear", (8, 4), False)),
    "1x1, dilated": ("linear", "conv2d", (8, 4, 1, 1), geometry((1, 1), dilation=(2, 2)), FIRST,
                     ("pointwise", "linear", (8, 4), False)),
    "kernel 1": ("linear", "conv1d", (8, 4, 1), geometry((1,)), FIRST,
            ("pointwise", "linear", (8, 4), False)),
    "back to patches": ("conv", "linear", (768, 768), geometry((16, 16)), LAST,
                        ("unpatchify", "conv2d", (768, 3, 16, 16), True)),
    "head to conv": ("conv", "linear", (4096, 25088), geometry((7, 7), stride=(1, 1)), FIRST,
                     ("full-kernel", "conv2d", (4096, 512, 7, 7), False)),
    "to 1x1": ("conv", "linear", (8, 4), geometry((1, 1)), FIRST,
               ("1x1", "conv2d", (8, 4, 1, 1), False)),
    "to time": ("conv", "linear", (8, 12), geometry((3, 2, 2)), FIRST,
                ("unpatchify", "conv3d", (8, 1, 3, 2, 2), False)),
}  # fmt: skip

REFUSED = {
    "SegFormer": ("linear", "conv2d", (64, 3, 7, 7),
                  geometry((7, 7), stride=(4, 4), padding=(3, 3)),
                  "CS001", "stride 4×4 is smaller than kernel 7×7: windows overlap; padding 3×3"),
    "one axis overlaps": ("linear", "conv2d", (4, 1, 2, 2), geometry((2, 2), stride=(2, 1)),
                          "CS001", "stride 2×1 is smaller than kernel 2×2: windows overlap"),
    "gaps": ("linear", "conv2d", (4, 1, 2, 2), geometry((2, 2), stride=(3, 2)),
             "CS002", "stride 3×2 is larger than kernel 2×2: inputs are skipped"),
    "ResNet shortcut": ("linear", "conv2d", (512, 256, 1, 1), geometry((1, 1), stride=(2, 2)),
                        "CS002", "stride 2×2 is larger than kernel 1×1: inputs are skipped"),
    "ViTPose": ("linear", "conv2d", (768, 3, 16, 16), geometry((16, 16), padding=(2, 2)),
                "CS003", "padding 2×2"),
    "padded 1x1": ("linear", "conv2d", (4, 4, 1, 1), geometry((1, 1), padding=(0, 1)),
                   "CS003", "padding 0×1"),
    "dilated": ("linear", "conv2d", (8, 3, 2, 2), geometry((2, 2), dilation=(2, 2)),
                "CS004", "dilation 2×2"),
    "dilated where it counts": ("linear", "conv2d", (8, 3, 1, 2), geometry((1, 2), dilation=(3, 2)),
                                "CS004", "dilation 1×2"),
    "grouped": ("linear", "conv2d", (16, 2, 4, 4), geometry((4, 4), groups=4), "CS005", "4 groups"),
    "depthwise 1x1": ("linear", "conv2d", (8, 1, 1, 1), geometry((1, 1), groups=8),
                      "CS005", "8 groups"),
    "both ways wrong": ("linear", "conv2d", (4, 1, 2, 2), geometry((2, 2), stride=(1, 3)),
                        "CS001", ("stride 1×3 is smaller than kernel 2×2: windows overlap; "
                        "stride 1×3 is larger than kernel 2×2: inputs are skipped")),
    "transposed": ("linear", "conv_transpose2d", (256, 256, 2, 2), geometry((2, 2)),
                   "CS006", "a transposed convolution"),
    "empty": ("linear", "conv2d", (0, 3, 2, 2), geometry((2, 2)),
              "CS018", "the weight has no elements"),
    "other inputs": ("conv", "linear", (4096, 25088), geometry((6, 6)),
                     "CS014", "25088 inputs are not C × 6×6"),
    "too few inputs": ("conv", "linear", (4, 3), geometry((2, 2)),
                       "CS014", "3 inputs are not C × 2×2"),
    "padded target": ("conv", "linear", (4, 4), geometry((2, 2), padding=(1, 1)),
                      "CS003", "padding 1×1"),
    "dilated target": ("conv", "linear", (4, 4), geometry((2, 2), dilation=(2, 1)),
                       "CS004", "dilation 2×1"),
    "grouped target": ("conv", "linear", (4, 4), geometry((2, 2), groups=2), "CS005", "2 groups"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("to", "form", "shape", "geometry_", "layout", "expected"), ACCEPTED.values(), ids=ACCEPTED
)
def test_accepted(
    to: str,
    form: str,
    shape: tuple[int, ...],
    geometry_: Geometry,
    layout: str,
    expected: tuple[str, str, tuple[int, ...], bool],
) -> None:
    found = decide(to, Layer(form, shape, geometry_, layout))
    assert isinstance(found, Rewrite)
    moves = found.arrangement.moves_bytes
    assert (found.rule, found.to, found.weight_shape, moves) == expected
    assert (found.layout, found.arrangement.source) == (layout, shape)
    assert found.why


@pytest.mark.parametrize(
    ("to", "form", "shape", "geometry_", "code", "reason"), REFUSED.values(), ids=REFUSED
)
def test_refused(
    to: str, form: str, shape: tuple[int, ...], geometry_: Geometry, code: str, reason: str
) -> None:
    assert decide(to, Layer(form, shape, geometry_, FIRST)) == Refusal(code, reason)


def test_every_rule_and_every_obstacle_has_a_golden_case() -> None:
    rules = {expected[0] for *_, expected in ACCEPTED.values()}
    assert rules == {"patchify", "pointwise", "1x1", "unpatchify", "full-kernel"}
    codes = {row[4] for row in REFUSED.values()}
    assert len(OBSTACLES) == 5
    assert codes == {"CS001", "CS002", "CS003", "CS004", "CS005", "CS006", "CS014", "CS018"}
    assert [rule.__name__ for rule in (*RULES["linear"], *RULES["conv"])] == [
        "patchify", "pointwise", "transposed", "unflatten",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("to", "form"), [("linear", "linear"), ("linear", "embedding"), ("conv", "conv2d")]
)
def test_no_rule_recognises(to: str, form: str) -> None:
    assert decide(to, Layer(form, (4, 4), geometry((1, 1)), FIRST)) is None


@given(geometries(), st.integers(1, 3), st.integers(1, 3), st.sampled_from(LAYOUTS))
def test_patchify_accepts_exactly_what_the_definition_says(
    g: Geometry, outputs: int, channels: int, layout: str
) -> None:
    shape = (outputs, channels, *g.kernel)
    found = decide("linear", Layer(f"conv{g.ndim}d", shape, g, layout))
    axes = list(zip(g.kernel, g.stride, g.padding, g.dilation, strict=True))
    exact = all(s == k and p == 0 and (k == 1 or d == 1) for k, s, p, d in axes) and g.groups == 1
    assert isinstance(found, Rewrite if exact else Refusal)
    if isinstance(found, Rewrite):
        assert found.rule == ("pointwise" if set(g.kernel) == {1} else "patchify")
        assert found.weight_shape == (outputs, channels * prod(g.kernel))


def positions(g: Geometry, size: tuple[int, ...]) -> list[list[int]]:
    """The inputs that each window of a conv reads, by brute force; -1 is padding."""
    padded = np.pad(counted(size), [(p, p) for p in g.padding], constant_values=-1)
    reach = [d * (k - 1) + 1 for k, d in zip(g.kernel, g.dilation, strict=True)]
    counts = [(n - r) // s + 1 for n, r, s in zip(padded.shape, reach, g.stride, strict=True)]
    windows = []
    for start in np.ndindex(*counts):
        corner = [i * s for i, s in zip(start, g.stride, strict=True)]
        cut = tuple(slice(c, c + r, d) for c, r, d in zip(corner, reach, g.dilation, strict=True))
        windows.append(padded[cut].ravel().tolist())
    return windows


@given(geometries())
def test_what_is_accepted_cuts_the_input_into_separate_adjacent_patches(g: Geometry) -> None:
    """The reason behind the definition: three windows along each axis are the input's tiles."""
    found = decide("linear", Layer(f"conv{g.ndim}d", (1, 1, *g.kernel), g, FIRST))
    size = tuple(3 * k for k in g.kernel)
    split = [n for k in g.kernel for n in (3, k)]
    axes = [*range(0, 2 * g.ndim, 2), *range(1, 2 * g.ndim, 2)]
    tiles = counted(size).reshape(split).transpose(axes).reshape(3**g.ndim, -1).tolist()
    same = positions(g, size) == tiles and g.groups == 1
    assert isinstance(found, Rewrite) is same


@given(geometries(), st.integers(1, 3), st.sampled_from(LAYOUTS))
def test_to_linear_and_back_moves_nothing(g: Geometry, channels: int, layout: str) -> None:
    plain = Geometry.plain(g.kernel, g.kernel)
    shape = (2, channels, *g.kernel)
    there = decide("linear", Layer(f"conv{g.ndim}d", shape, plain, layout))
    assert isinstance(there, Rewrite)
    back = decide("conv", Layer(there.to, there.weight_shape, plain, layout))
    assert isinstance(back, Rewrite)
    assert (back.to, back.weight_shape) == (f"conv{g.ndim}d", shape)
    assert back.arrangement == there.arrangement.inverse()
    assert not there.arrangement.then(back.arrangement).moves_bytes
