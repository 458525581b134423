"""What `fully_convolutional` is given: arguments that it cannot understand, models without values."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import convsurgeon as cs
from tests.dense_cases import FLATTENED, Styled

WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "a shape": ((1, 1, 20, 17), {}, "is no tensor"),
    "a single image": (torch.zeros(20, 17), {}, r"\[20, 17\] is no tensor"),
    "integers": (torch.zeros(Styled.shape, dtype=torch.int64), {}, "is no image of floating"),
    "no image": (torch.zeros(0, 1, 20, 17), {}, "is no image of floating numbers"),
    "a pool": (torch.zeros(Styled.shape), {"pool": "away"}, "'away' is none of 'refuse', 'behind'"),
    "a level": (torch.zeros(Styled.shape), {"verify": "some"}, "'some' is none of 'full'"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_arguments(wrong: str) -> None:
    example, options, why = WRONG[wrong]
    with pytest.raises(cs.ConvsurgeonError, match=why) as caught:
        cs.fully_convolutional(Styled(FLATTENED["flatten"]), example, **options)
    assert caught.value.code == "CS090"


def test_a_model_without_values_is_not_proved() -> None:
    with torch.device("meta"):
        model = Styled(FLATTENED["flatten"])
    with pytest.raises(cs.ConvsurgeonError, match="has no values on the meta device"):
        cs.fully_convolutional(model, torch.zeros(Styled.shape))
    report = cs.fully_convolutional(model, torch.zeros(Styled.shape), verify="none")
    assert report.verdict is None
    assert report.model.get_parameter("fc1.weight").shape == (8, 6, 6, 4)
