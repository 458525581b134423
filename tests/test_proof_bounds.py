"""The bound of the function proof holds, is not vacuous, and is what its formula says."""

from __future__ import annotations

from fractions import Fraction
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from convsurgeon.geometry import Geometry
from convsurgeon.proof.bounds import factor, gamma, underflow
from convsurgeon.proof.inputs import GRID, layer_inputs, tensor_of
from tests.proof_pairs import Array, Case, build, change, function_alone, stored
from tests.strategies import geometries

U = Fraction(1, 2**53)


def exact_gamma(terms: int) -> Fraction:
    return terms * U / (1 - terms * U)


@given(st.integers(0, 2**51))
def test_gamma_is_the_formula(terms: int) -> None:
    exact = exact_gamma(terms)
    assert abs(Fraction(gamma(terms)) - exact) <= exact * 4 * U


@given(st.integers(0, 2**40))
def test_factor_is_the_formula(products: int) -> None:
    g = exact_gamma(products + 1)
    exact = 2 * g / (1 - g)
    assert abs(Fraction(factor(products)) - exact) <= exact * 16 * U


def test_golden() -> None:
    assert gamma(0) == 0
    assert gamma(1) == pytest.approx(2.0**-53, rel=1e-15)
    assert factor(767) == pytest.approx(2 * 768 * 2.0**-53, rel=1e-12)
    assert underflow(0) == 5e-324


@pytest.mark.parametrize("terms", [-1, 2**52, 2**60])
def test_gamma_refuses_what_the_formula_does_not_cover(terms: int) -> None:
    with pytest.raises(ValueError, match="terms"):
        gamma(terms)


@settings(max_examples=25)
@given(st.integers(1, 60), st.integers(0, 10**6), st.integers(-200, 200))
def test_every_evaluation_lies_within_the_bound_of_the_exact_sum(
    products: int, seed: int, exponent: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    w = torch.randn(1, products, dtype=torch.float64, generator=draw) * 2.0**exponent
    x = torch.randn(1, products, dtype=torch.float64, generator=draw)
    b = torch.randn(1, dtype=torch.float64, generator=draw)
    pairs = [(Fraction(float(p)), Fraction(float(q))) for p, q in zip(w[0], x[0], strict=True)]
    exact = Fraction(float(b)) + sum(p * q for p, q in pairs)
    magnitude = abs(Fraction(float(b))) + sum(abs(p * q) for p, q in pairs)
    allowed = exact_gamma(products + 1) * magnitude
    for y in (
        functional.linear(x, w, b),
        functional.conv1d(x[:, None], w[:, None], b, stride=products),
    ):
        assert abs(Fraction(float(y)) - exact) <= allowed


@settings(max_examples=60)
@given(st.integers(1, 3), st.integers(0, 10**6))
def test_two_orders_of_summation_lie_within_the_bound(axes: int, seed: int) -> None:
    kernel = (5, 4, 3)[:axes]
    draw = torch.Generator().manual_seed(seed)
    w = torch.randn(6, 7, *kernel, dtype=torch.float64, generator=draw)
    x = torch.randn(1, 7, *kernel, dtype=torch.float64, generator=draw)
    conv = (functional.conv1d, functional.conv2d, functional.conv3d)[axes - 1]
    y = conv(x, w, None, stride=kernel).flatten()
    order = torch.randperm(7 * prod(kernel), generator=draw)
    z = functional.linear(x.flatten()[order], w.flatten(1)[:, order])
    magnitude = functional.linear(x.flatten().abs(), w.flatten(1).abs())
    assert bool(((y - z).abs() <= magnitude * factor(7 * prod(kernel))).all())


@pytest.mark.parametrize(("to", "layout"), [("linear", "c p1 p2"), ("conv", "p1 p2 c")])
@pytest.mark.parametrize("relative", [1e-9, 1e-10])
def test_the_bound_is_not_vacuous(to: str, layout: str, relative: float, tmp_path: Path) -> None:
    case = Case((8, 3, 4, 4), to, layout, "F64")
    draw = torch.Generator().manual_seed(1)
    weight = torch.randn(case.source, dtype=torch.float64, generator=draw)
    original, swapped = build(tmp_path, case, stored(weight, "F64"))

    def scaled(array: Array) -> Array:
        floats = array.view("<f8")
        largest = np.unravel_index(np.abs(floats).argmax(), floats.shape)
        floats[largest] *= 1 + relative
        return array

    true, mutant = (
        function_alone(original, swapped),
        function_alone(original, change(swapped, scaled)),
    )
    assert true.equal
    assert true.difference <= true.bound < 1e-11
    assert not mutant.equal
    assert mutant.difference > mutant.bound > 0


@given(geometries(), st.integers(1, 4))
def test_inputs_cover_what_they_promise(geometry: Geometry, channels: int) -> None:
    inputs = layer_inputs(channels, geometry)
    shapes = [one.shape for one in inputs]
    axes = geometry.ndim
    unbatched, *batched = shapes
    assert unbatched == (channels, *geometry.kernel)
    assert all(shape[1] == channels and len(shape) == axes + 2 for shape in batched)
    assert {shape[0] for shape in batched} >= {0, 1, 2}
    grids = [
        tuple((size - k) // s + 1 for size, k, s in zip(shape[-axes:], geometry.kernel, geometry.stride, strict=True))
        for shape in shapes
    ]  # fmt: skip
    assert all(min(grid) >= 1 for grid in grids)
    assert any(len(set(grid)) == axes for grid in grids)  # exchanged axes show
    assert len(set(grids[GRID])) == axes
    assert min(grids[GRID]) > 1
    assert {one.values for one in inputs} == {"random", "index"}
    assert {one.memory for one in inputs} == {"contiguous", "channels last", "strided"}
    if geometry.stride == geometry.kernel:
        odd = [
            any(size % k for size, k in zip(s[-axes:], geometry.kernel, strict=True))
            for s in shapes
        ]
        assert any(odd) == (geometry.window > 1)


@given(geometries(), st.integers(1, 4))
def test_inputs_are_what_they_are_called(geometry: Geometry, channels: int) -> None:
    draw = torch.Generator().manual_seed(1)
    for one in layer_inputs(channels, geometry):
        x = tensor_of(one, draw)
        assert x.shape == one.shape
        assert x.dtype == torch.float64
        dense = tuple(prod(one.shape[axis + 1 :]) for axis in range(len(one.shape)))
        if one.memory == "contiguous":
            assert x.stride() == dense
        elif one.memory == "strided":
            assert x.stride(-1) == 2
        elif channels > 1:
            assert x.stride(1) == 1
        if one.values == "index":
            assert sorted(x.flatten().tolist()) == list(range(1, x.numel() + 1))
