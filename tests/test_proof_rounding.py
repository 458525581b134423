"""Floats: units in the last place are what they are defined to be, and the figures add up."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import convsurgeon as cs
from convsurgeon.proof import Error, Floats
from convsurgeon.proof.rounding import unit_in_last_place
from tests.proof_pairs import Case, build, stored


def unit(value: float, dtype: torch.dtype) -> float:
    return float(unit_in_last_place(torch.tensor([value], dtype=torch.float64), dtype))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_unit_in_the_last_place_of_float64(value: float) -> None:
    assert unit(value, torch.float64) == math.ulp(value)


@given(st.floats(allow_nan=False, allow_infinity=False, width=32))
def test_a_unit_in_the_last_place_of_float32(value: float) -> None:
    below = np.float32(abs(value))
    if below < np.finfo(np.float32).max:
        assert unit(value, torch.float32) == float(np.spacing(below))


@given(st.floats(allow_nan=False, allow_infinity=False, width=16))
def test_a_unit_in_the_last_place_of_float16(value: float) -> None:
    assert unit(value, torch.float16) == float(np.spacing(np.float16(abs(value)), dtype=np.float16))


def test_golden_units() -> None:
    assert unit(1.0, torch.bfloat16) == 2.0**-7
    assert unit(1.99, torch.bfloat16) == 2.0**-7
    assert unit(-2.0, torch.bfloat16) == 2.0**-6
    assert unit(0.0, torch.float32) == 2.0**-149
    assert unit(0.0, torch.float16) == 2.0**-24


def floats(tmp_path: Path, case: Case, weight: torch.Tensor) -> Floats | None:
    original, swapped = build(tmp_path, case, stored(weight, case.dtype))
    return cs.verify(original, swapped).files[0].layers[0].floats


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
@pytest.mark.parametrize("layout", ["c p1 p2", "p1 p2 c"])
def test_both_forms_stand_side_by_side(dtype: str, layout: str, tmp_path: Path) -> None:
    weight = torch.randn((16, 3, 4, 4), generator=torch.Generator().manual_seed(2))
    found = floats(tmp_path, Case((16, 3, 4, 4), layout=layout, dtype=dtype), weight)
    assert found is not None
    assert found.dtype == dtype
    assert found.outputs == 2 * 16 * 2 * 3
    eps = {"F32": 2.0**-24, "BF16": 2.0**-8, "F16": 2.0**-11}[dtype]
    for one in (found.before, found.after):
        assert 0 < one.rms <= 20 * eps
        assert one.relative <= 20 * eps
        assert one.absolute >= one.relative  # the largest output is above one here
        assert one.ulps >= 0.25
    assert 0.2 < found.ratio < 5
    assert found.between.rms <= found.before.rms + found.after.rms


def test_float64_is_its_own_yardstick(tmp_path: Path) -> None:
    weight = torch.randn((4, 3, 2, 2), generator=torch.Generator().manual_seed(2))
    found = floats(tmp_path, Case((4, 3, 2, 2), dtype="F64"), weight)
    assert found is not None
    assert found.before == Error(0.0, 0.0, 0.0, 0.0, 0.0)
    assert found.between == found.after


@pytest.mark.parametrize(
    ("dtype", "value"), [("F16", 60000.0), ("F32", 0.0), ("F32", float("nan")), ("F8_E4M3", 1.0)]
)
def test_no_figures_where_there_are_none(dtype: str, value: float, tmp_path: Path) -> None:
    # Overflow; nothing to be relative to; NaN; no kernels.
    weight = torch.full((2, 1, 2, 2), value)
    case = Case((2, 1, 2, 2), dtype=dtype)
    tensors = stored(weight, dtype)
    original, swapped = build(tmp_path, case, tensors)
    found = cs.verify(original, swapped).files[0].layers[0].floats
    if value == 0.0:
        assert found is None or found.before.rms < 1e-6  # the bias alone
    elif dtype == "F16":
        assert (
            cs.verify(original, swapped).to_json()["files"][0]["layers"][0]["floats"]["before"][
                "absolute"
            ]
            is None
        )
    else:
        assert found is None


def test_ratio() -> None:
    small, large = Error(1.0, 1.0, 1.0, 1.0, 1.0), Error(2.0, 2.0, 2.0, 2.0, 2.0)
    none = Error(0.0, 0.0, 0.0, 0.0, 0.0)
    assert Floats("F32", small, large, large, 1).ratio == 2
    assert Floats("F32", none, none, none, 1).ratio == 1
    assert math.isinf(Floats("F32", none, small, small, 1).ratio)
