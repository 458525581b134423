"""The plan of a fully convolutional network: what it says of strides, fields, borders and steps."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - as models are written
from torch import Tensor, nn

import convsurgeon as cs
from convsurgeon.plan.dense import DensePlan
from tests.dense_cases import FLATTENED, AlexLike, Styled, convert


def planned(model: nn.Module, shape: tuple[int, ...]) -> DensePlan:
    return cs.fully_convolutional(model, torch.zeros(shape), dry_run=True).plan


def with_head(*trunk: nn.Module, size: tuple[int, ...] = (15, 15)) -> tuple[nn.Module, Any]:
    """Return a network with so much of a head as it takes, and the shape of its images."""
    body = nn.Sequential(*trunk)
    features = body(torch.zeros(1, 2, *size)).numel()
    return nn.Sequential(*body, nn.Flatten(), nn.Linear(features, 3)), (1, 2, *size)


class Calls(nn.Module):
    """A convolution that a forward calls itself."""

    def __init__(self, **how: Any) -> None:
        super().__init__()
        self.weight, self.how = nn.Parameter(torch.ones(4, 2, 3, 2)), how

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, **self.how)


BORDERS: dict[str, tuple[list[nn.Module], tuple[int, ...], tuple[str, ...]]] = {
    "nothing": ([nn.Conv2d(2, 4, 3)], (15, 15), ()),
    "padding": ([nn.Conv2d(2, 4, 3, padding=(1, 0))], (17, 15), ("0: pads by 1×0",)),
    "same": ([nn.Conv2d(2, 4, 3, padding="same")], (17, 17), ("0: pads by same",)),
    "same of one": ([nn.Conv2d(2, 4, 1, padding="same")], (15, 15), ()),
    "valid": ([nn.Conv2d(2, 4, 3, padding="valid")], (15, 15), ()),
    "dilation": ([nn.Conv2d(2, 4, 3, dilation=3)], (15, 15), ()),
    "a padded pool": ([nn.MaxPool2d(3, 1, 1)], (17, 17), ("0: MaxPool2d pads by 1×1",)),
    "a ceiling that fits": ([nn.MaxPool2d(3, 2, ceil_mode=True)], (15, 15), ()),
    "a ceiling that does not": (
        [nn.AvgPool2d(2, ceil_mode=True)],
        (16, 16),
        ("0: AvgPool2d with ceil_mode has windows that reach past the border",),
    ),
    "a called convolution": ([Calls(stride=2)], (15, 14), ()),
    "a called one that pads": ([Calls(padding=(1, 0))], (17, 15), ("conv2d: pads by 1×0",)),
}
"""The trunk, the field of one cell, and what is said of borders; images are of 15 x 15."""


@pytest.mark.parametrize("case", BORDERS)
def test_fields_and_borders(case: str) -> None:
    trunk, field, borders = BORDERS[case]
    plan = planned(*with_head(*trunk))
    assert (plan.field, plan.borders) == (field, borders)
    assert plan.possible


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (nn.ZeroPad2d(1), "0: ZeroPad2d pads"),
        (nn.InstanceNorm2d(2), "0: how far InstanceNorm2d sees is not known"),
    ],
)
def test_what_is_not_known_makes_no_claim(module: nn.Module, text: str) -> None:
    plan = planned(*with_head(module, nn.Conv2d(2, 4, 3)))
    assert (plan.field, plan.borders) == (None, (text,))


@pytest.mark.parametrize("case", BORDERS)
def test_the_proof_bears_out_what_is_said_of_borders(case: str) -> None:
    trunk, _, borders = BORDERS[case]
    torch.manual_seed(1)
    made = convert(*with_head(*trunk))
    assert all(one.equal for one in made.verdict.crops) == (not borders)


class Branched(nn.Module):
    """Two ways of one stride and different fields, added up."""

    def __init__(self) -> None:
        super().__init__()
        self.long = nn.Sequential(nn.Conv2d(2, 4, 3, 2), nn.Conv2d(4, 4, 3))
        self.short, self.fc = nn.Conv2d(2, 4, 7, 2), nn.Linear(4 * 4 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc((self.long(x) + self.short(x)).flatten(1))  # type: ignore[no-any-return]


def test_the_longer_branch_counts() -> None:
    made = convert(Branched(), (1, 2, 14, 14))
    assert (made.plan.stride, made.plan.field) == ((2, 2), (13, 13))
    assert made.verdict.crops_count
    assert made.verdict.equivalent


@pytest.mark.parametrize("stride", [1, 2, 3, 7, 11, 13, 29])
def test_every_stride_is_found(stride: int) -> None:
    trunk = nn.Conv2d(2, 4, 3, stride=(stride, 1))
    plan = planned(*with_head(trunk, size=(3 * stride + 2, 6)))
    assert plan.stride == (stride, 1)


def test_the_text_of_a_plan() -> None:
    text = str(planned(AlexLike(), AlexLike.shape)).splitlines()
    assert text[0] == "AlexLike at 3×67×59"
    assert text[1].startswith("  avgpool: AdaptiveAvgPool2d to 3×2 -> nothing: it changes nothing")
    assert text[-1] == "  one cell at 67×59, one more every 8×8 pixels; each sees 67×59"


def test_a_called_dropout_is_noted() -> None:
    plan = planned(Styled(FLATTENED["flatten"]), Styled.shape)
    (note,) = plan.notes
    assert note.startswith("dropout that the forward calls itself stays off")
    assert planned(AlexLike(), AlexLike.shape).notes == ()


def test_names_of_a_model_are_escaped() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten())
    model.add_module("\x1b[31m", nn.Linear(2 * 4, 3))
    plan = planned(model, (1, 1, 4, 4))
    assert "\x1b" not in str(plan)
    assert json.loads(json.dumps(plan.to_json()))["steps"][1]["module"] == "\x1b[31m"
