"""Models that are put together in unusual ways: they compute what they did, or a layer stays."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from tests.live_cases import TO_CONV, refusal


@pytest.mark.parametrize("options", [{}, TO_CONV], ids=["linear", "conv"])
def test_a_bias_that_is_a_buffer_is_refused(options: dict[str, Any]) -> None:
    one: Any = nn.Linear(6, 4) if options else nn.Conv2d(3, 4, 2, 2)
    del one._parameters["bias"]
    one.register_buffer("bias", torch.zeros(len(one.weight)))
    code, reason = refusal(nn.Sequential(one), **options)
    assert (code, reason) == ("CS024", "it holds a buffer bias beside its weight and bias")
