"""Every way to damage a swapped file is refuted, and the layer or tensor is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import convsurgeon as cs
from tests.cli_helpers import Tensor, read, write
from tests.proof_pairs import (
    BIAS,
    SIZES,
    WEIGHT,
    Array,
    Case,
    build,
    change,
    flip,
    function_alone,
    in_conv_axes,
    recorded,
    values,
)

# Square on the Linear's side, so that a transposition keeps the shape.
SQUARE = {1: (12, 3, 4), 2: (12, 3, 2, 2), 3: (24, 3, 2, 2, 2)}
LAYOUTS = ("c p1 p2", "p1 p2 c")
FORMS = [
    Case(SQUARE[n], to, layout) for n in SQUARE for to in ("linear", "conv") for layout in LAYOUTS
]
DTYPES = [
    Case(SQUARE[2], to, layout, dtype)
    for dtype in SIZES
    for to, layout in (("linear", "c p1 p2"), ("linear", "p1 p2 c"), ("conv", "p1 p2 c"))
]
Pairs = dict[Case, tuple[Path, Path]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Pairs:
    return {
        case: build(tmp_path_factory.mktemp("pair"), case) for case in dict.fromkeys(FORMS + DTYPES)
    }


def refuted(original: Path, mutant: Path, name: str = "proj", *, function: bool = True) -> bool:
    """Whether verification says no and names what is wrong."""
    verdict = cs.verify(original, mutant, function=function)
    named = [line for file in verdict.files for line in file.complaints if name in line]
    return not verdict.equivalent and bool(named)


def other_layout(case: Case) -> Callable[[Array], Array]:
    def edit(array: Array) -> Array:
        out, channels, *kernel = case.conv
        if array.ndim == 2 and case.layout == "c p1 p2":
            return np.moveaxis(array.reshape(case.conv), 1, -1).reshape(array.shape)
        if array.ndim == 2:
            return np.moveaxis(array.reshape(out, *kernel, channels), -1, 1).reshape(array.shape)
        flat = np.moveaxis(array, 1, -1).reshape(out, -1)
        return flat.reshape(array.shape)

    return edit


MUTATIONS: dict[str, Callable[[Case], Callable[[Array], Array]]] = {
    "transposed": lambda _: lambda a: a.reshape(len(a), -1).T.reshape(a.shape),
    "kernel axes exchanged": lambda c: in_conv_axes(c, lambda a: a.swapaxes(-1, -2)),
    "kernel reversed": lambda c: in_conv_axes(c, lambda a: a[..., ::-1]),
    "channels exchanged": lambda c: in_conv_axes(c, lambda a: a[:, [1, 0, 2]]),
    "rows exchanged": lambda _: lambda a: a[[1, 0, *range(2, len(a))]],
    "rows shifted": lambda _: lambda a: np.roll(a, 1, axis=0),
    "columns shifted": lambda _: lambda a: np.roll(a, 1, axis=1),
    "other layout": other_layout,
    "all zero": lambda _: np.zeros_like,
}


@pytest.mark.parametrize("case", FORMS + DTYPES, ids=str)
def test_what_is_not_damaged_is_equivalent(case: Case, made: Pairs) -> None:
    verdict = cs.verify(*made[case])
    assert verdict.equivalent
    (layer,) = verdict.files[0].layers
    assert layer.bits.equal
    assert layer.bits.elements == np.prod(case.conv)
    assert layer.function is not None
    assert layer.function.outputs > 100
    assert verdict.files[0].others == 3


# One kernel axis has nothing to be exchanged with.
MOVED = [
    (case, name)
    for case in FORMS
    for name in MUTATIONS
    if name != "kernel axes exchanged" or len(case.conv) > 3
]


@pytest.mark.parametrize(("case", "name"), MOVED, ids=str)
def test_moved_elements_are_refuted_by_both_proofs(case: Case, name: str, made: Pairs) -> None:
    original, swapped = made[case]
    mutant = change(swapped, MUTATIONS[name](case))
    assert refuted(original, mutant)
    assert not function_alone(original, mutant).equal
    assert not recorded(mutant).equivalent


@pytest.mark.parametrize("case", DTYPES, ids=str)
@pytest.mark.parametrize("name", ["transposed", "rows exchanged", "other layout"])
def test_moved_elements_are_refuted_in_every_dtype(case: Case, name: str, made: Pairs) -> None:
    original, swapped = made[case]
    mutant = change(swapped, MUTATIONS[name](case))
    assert refuted(original, mutant)
    assert not function_alone(original, mutant).equal


@settings(max_examples=300, suppress_health_check=list(HealthCheck))
@given(case=st.sampled_from(DTYPES + FORMS), data=st.data())
def test_any_single_bit_of_a_weight_counts(made: Pairs, case: Case, data: st.DataObject) -> None:
    original, swapped = made[case]
    before = read(swapped)[0][WEIGHT]
    bit = data.draw(st.integers(0, 8 * len(before.data) - 1))
    mutant = flip(swapped, WEIGHT, bit)
    assert refuted(original, mutant, function=False)
    assert not recorded(mutant).equivalent
    old, new = values(before), values(read(mutant)[0][WEIGHT])
    moved = np.nanmax(np.abs(old - new)) if np.isfinite(new).all() else np.inf
    # A flip in the last places of a float64, or of the sign of a zero, changes no output by more
    # than rounding does.
    if moved > 1e-9 * np.abs(old).max():
        assert not function_alone(original, mutant).equal


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(key=st.sampled_from(["before.weight", BIAS, "after.count"]), data=st.data())
def test_any_single_bit_of_another_tensor_counts(
    made: Pairs, key: str, data: st.DataObject
) -> None:
    original, swapped = made[FORMS[0]]
    size = len(read(swapped)[0][key].data)
    mutant = flip(swapped, key, data.draw(st.integers(0, 8 * size - 1)))
    assert refuted(original, mutant, key, function=False)


Edit = Callable[[dict[str, Tensor], dict[str, str]], object]


def rename(tensors: dict[str, Tensor], old: str, new: str) -> None:
    tensors[new] = tensors.pop(old)


def exchange(tensors: dict[str, Tensor], one: str, other: str) -> None:
    tensors[one], tensors[other] = tensors[other], tensors[one]


FILES: dict[str, tuple[str, Edit]] = {
    "metadata changed": ("author", lambda _, m: m.update(author="nobody")),
    "metadata removed": ("author", lambda _, m: m.pop("author")),
    "metadata added": ("extra", lambda _, m: m.update(extra="1")),
    "bias missing": (BIAS, lambda t, _: t.pop(BIAS)),
    "weight missing": ("proj", lambda t, _: t.pop(WEIGHT)),
    "weight renamed": ("proj", lambda t, _: rename(t, WEIGHT, "proj.w")),
    "other renamed": ("after.sum", lambda t, _: rename(t, "after.count", "after.sum")),
    "extra tensor": ("new", lambda t, _: t.update(new=Tensor("U8", (1,), b"\0"))),
    "bias truncated": (BIAS, lambda t, _: t.update({BIAS: Tensor("F32", (2,), t[BIAS].data[:8])})),
    "bias of another shape": (BIAS, lambda t, _: t.update({BIAS: t[BIAS]._replace(shape=(3, 4))})),
    "dtype of another tensor": (
        "after.count", lambda t, _: t.update({"after.count": Tensor("U64", (3,), bytes(24))}),
    ),
    "dtype of the weight": ("proj", lambda t, _: t.update({WEIGHT: t[WEIGHT]._replace(dtype="I32")})),
    "weight not rewritten": (
        "proj", lambda t, _: t.update({WEIGHT: t[WEIGHT]._replace(shape=SQUARE[2])}),
    ),
    "tensors exchanged": ("before.weight", lambda t, _: exchange(t, "before.weight", BIAS)),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_every_change_of_the_file_is_refuted(name: str, made: Pairs) -> None:
    original, swapped = made[Case(SQUARE[2])]
    tensors, metadata = read(swapped)
    complaint, edit = FILES[name]
    edit(tensors, metadata)
    mutant = write(swapped.with_name("mutant.safetensors"), tensors, metadata)
    assert refuted(original, mutant, complaint)


def test_order_and_padding_of_the_data_do_not_count(made: Pairs) -> None:
    original, swapped = made[Case(SQUARE[2])]
    tensors, metadata = read(swapped)
    turned = {name: tensors[name] for name in reversed(tensors)}
    assert cs.verify(
        original, write(swapped.with_name("t.safetensors"), turned, metadata)
    ).equivalent


def test_a_transposition_that_changes_the_shape(tmp_path: Path) -> None:
    original, swapped = build(tmp_path, Case((5, 3, 2, 2)))
    mutant = change(swapped, lambda a: a.T)
    assert refuted(original, mutant)
    assert not recorded(mutant).equivalent
