"""The proof of fully convolutional networks says no: mutants of each kind, and of each claim."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convsurgeon as cs
from convsurgeon.errors import ModelError, NotEquivalentError
from convsurgeon.proof.cells import Claim, check
from convsurgeon.proof.cells_verdict import DenseVerdict
from tests.dense_cases import convert

SHAPE = (1, 3, 18, 18)
"""Of images; the map is `[4, 4, 4]`, square, the stride 4."""


def original() -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(
        nn.Conv2d(3, 4, 4, stride=2),
        nn.Tanh(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * 4 * 4, 6),
        nn.ReLU(),
        nn.Linear(6, 5),
        nn.Softmax(dim=1),
    )


MODEL = original()
CLAIM = Claim(SHAPE[1:], ("4.weight", "6.weight"), (4, 4), pooled=False, borders=())


def network() -> Any:
    """A network that is right, and shares no memory with the model."""
    return copy.deepcopy(convert(MODEL, SHAPE).model)


def judged(dense: nn.Module, claim: Claim = CLAIM) -> DenseVerdict:
    return check(MODEL, dense, claim)


class Bent(nn.Module):
    """A network with the right tensors and another output: bits alone do not see it."""

    def __init__(self, inner: nn.Module, bend: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.bend = inner, bend

    def forward(self, x: Tensor) -> Tensor:
        return self.bend(self.inner(x))

    def state_dict(self, *_: Any, **__: Any) -> Any:
        return self.inner.state_dict()


def test_the_right_network_passes() -> None:
    verdict = judged(network())
    assert verdict.equivalent
    assert verdict.crops_count
    assert [one.cells for one in verdict.cells] == [(1, 1), (3, 2), (2, 3)]
    assert [one.image[2:] for one in verdict.cells] == [(18, 18), (26, 22), (25, 29)]
    assert not verdict.complaints


def weight(dense: Any) -> Tensor:
    found: Tensor = dense.get_parameter("4.weight").data
    return found


def another_order(dense: Any) -> None:
    kernel = weight(dense)
    kernel.copy_(kernel.reshape(6, 4, 4, 4).movedim(-1, 1).clone())


def exchanged(dense: Any) -> None:
    weight(dense).copy_(weight(dense).transpose(2, 3).clone())


def permuted(dense: Any) -> None:
    weight(dense).copy_(weight(dense)[:, [1, 0, 2, 3]].clone())


def no_bias(dense: Any) -> None:
    dense.get_parameter("6.bias").data.zero_()


def bias_taken(dense: Any) -> None:
    dense.get_submodule("6").bias = None


def one_place(dense: Any) -> None:
    kernel = weight(dense)
    kernel[3, 1, 2, 0] = torch.nextafter(kernel[3, 1, 2, 0], torch.tensor(9.0))


def other_rows(dense: Any) -> None:
    weight(dense).copy_(weight(dense).flip(0).clone())


def trunk(dense: Any) -> None:
    dense.get_parameter("0.bias").data += 1e-3


BITS = [another_order, exchanged, permuted, no_bias, bias_taken, one_place, other_rows, trunk]


@pytest.mark.parametrize("mutate", BITS, ids=[one.__name__ for one in BITS])
def test_wrong_tensors_are_refuted(mutate: Callable[[Any], None]) -> None:
    dense = network()
    mutate(dense)
    verdict = judged(dense)
    assert not verdict.equivalent
    assert any(one.differing for one in verdict.bits)
    with pytest.raises(NotEquivalentError):
        verdict.require()


@pytest.mark.parametrize("mutate", BITS, ids=[one.__name__ for one in BITS])
def test_the_cells_see_them_too(mutate: Callable[[Any], None]) -> None:
    dense = network()
    mutate(dense)
    assert not all(one.equal for one in judged(dense).cells)


def softmax_over_positions(maps: Tensor) -> Tensor:
    return maps.log().flatten(2).softmax(2).view_as(maps)


def transposed(maps: Tensor) -> Tensor:
    return maps.transpose(2, 3)


def shifted(maps: Tensor) -> Tensor:
    return maps.roll(1, dims=3)


def one_cell_less(maps: Tensor) -> Tensor:
    return maps[..., : max(1, maps.shape[-1] - 1)]


def one_cell_more(maps: Tensor) -> Tensor:
    return nn.functional.pad(maps, (0, 1, 0, 0), mode="replicate")


def averaged(maps: Tensor) -> Tensor:
    return maps.mean((2, 3), keepdim=True)


def a_last_place_of_float32(maps: Tensor) -> Tensor:
    return maps * (1 + 2**-24)


BENT = [
    softmax_over_positions,
    transposed,
    shifted,
    one_cell_less,
    one_cell_more,
    averaged,
    a_last_place_of_float32,
]


@pytest.mark.parametrize("bend", BENT, ids=[one.__name__ for one in BENT])
def test_wrong_outputs_of_right_tensors_are_refuted(bend: Callable[[Tensor], Tensor]) -> None:
    verdict = judged(Bent(network(), bend))
    assert not any(one.differing for one in verdict.bits)
    assert not verdict.equivalent
    assert any(line.startswith("cells at") for line in verdict.complaints)


@pytest.mark.parametrize("stride", [(2, 4), (4, 2), (8, 8), (3, 3), (1, 1)])
def test_a_wrong_stride_is_refuted(stride: tuple[int, int]) -> None:
    verdict = judged(network(), replace(CLAIM, stride=stride))
    assert not verdict.equivalent
    assert any("the stride claims" in line for line in verdict.complaints)


def test_padding_that_is_not_told_is_refuted_by_the_crops_alone() -> None:
    torch.manual_seed(5)
    padded = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.Flatten(), nn.Linear(3 * 36, 4))
    made = convert(padded, (1, 1, 6, 6))
    assert made.verdict.borders == ("0: pads by 1×1",)
    assert not made.verdict.crops_count
    claim = Claim((1, 6, 6), ("2.weight",), (1, 1), pooled=False, borders=())
    verdict = check(padded, made.model, claim)
    assert all(one.equal for one in verdict.cells)
    assert not verdict.equivalent
    assert all(line.startswith("crops at") for line in verdict.complaints)


def pooled() -> nn.Module:
    torch.manual_seed(5)
    trunk = [nn.Conv2d(1, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    return nn.Sequential(*trunk, nn.Flatten(), nn.Linear(3, 4))


@pytest.mark.parametrize("bend", [shifted, transposed, a_last_place_of_float32])
def test_a_pool_behind_is_refuted_by_its_cells(bend: Callable[[Tensor], Tensor]) -> None:
    model = pooled()
    made = convert(model, (1, 1, 7, 6), pool="behind")
    claim = Claim((1, 7, 6), ("4.weight",), (1, 1), pooled=True, borders=())
    assert check(model, made.model, claim).equivalent
    assert not check(model, Bent(made.model, bend), claim).equivalent


def test_a_mean_that_differs_is_refuted() -> None:
    model = pooled()
    made = convert(model, (1, 1, 7, 6), pool="behind")
    claim = Claim((1, 7, 6), ("4.weight",), (1, 1), pooled=True, borders=())
    verdict = check(model, Bent(made.model, lambda maps: maps + 1e-6), claim)
    assert any(line.startswith("mean at") for line in verdict.complaints)


class Second(Bent):
    """A network with a second output."""

    def forward(self, x: Tensor) -> Any:
        found = self.bend(self.inner(x))
        return found, found


def test_outputs_that_only_one_of_both_gives_are_refuted() -> None:
    verdict = judged(Second(network(), lambda maps: maps))
    assert any("the original does not give it" in line for line in verdict.complaints)


def test_numbers_that_overflow_excuse_nothing() -> None:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2), Huge())
    claim = Claim((1, 4, 4), ("2.weight",), (1, 1), pooled=False, borders=())
    dense = nn.Sequential(model[0], nn.Identity(), nn.Conv2d(2, 2, 2), Huge())
    with torch.no_grad():
        vars(dense)["_modules"]["2"].weight.zero_()
    assert not all(one.equal for one in check(model, dense, claim).cells)


class Huge(nn.Module):
    """Infinity for some of the numbers that go in, and not for others."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 1e308 * 10


def test_a_weight_that_no_map_leads_to() -> None:
    with pytest.raises(ModelError, match=r"no map leads to 1\.weight"):
        check(
            nn.Sequential(nn.Identity(), nn.Linear(4, 2)),
            nn.Conv2d(1, 1, 1),
            Claim((4,), ("1.weight",), (), pooled=False, borders=()),
        )


def test_a_verdict_must_be_asked() -> None:
    with pytest.raises(TypeError, match=r"ask verdict\.equivalent"):
        bool(judged(network()))


def test_what_the_surgery_got_wrong_is_not_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from convsurgeon.dense import build

    right = build._conv

    def wrong(traced: Any, node: Any, step: Any) -> None:
        right(traced, node, step)
        made = traced.model.get_submodule(str(node.target))
        made.weight = nn.Parameter(made.weight.detach().flip(1).clone())

    monkeypatch.setitem(build._ACTIONS, "conv", wrong)
    with pytest.raises(cs.ConvsurgeonError, match=r"not equivalent: 4\.weight"):
        cs.fully_convolutional(MODEL, torch.zeros(SHAPE))
