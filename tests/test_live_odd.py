"""Models that are put together in unusual ways: they compute what they did, or a layer stays."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import convsurgeon as cs
from tests.live_cases import TO_CONV, refusal


@pytest.mark.parametrize("options", [{}, TO_CONV], ids=["linear", "conv"])
def test_a_bias_that_is_a_buffer_is_refused(options: dict[str, Any]) -> None:
    one: Any = nn.Linear(6, 4) if options else nn.Conv2d(3, 4, 2, 2)
    del one._parameters["bias"]
    one.register_buffer("bias", torch.zeros(len(one.weight)))
    code, reason = refusal(nn.Sequential(one), **options)
    assert (code, reason) == ("CS024", "it holds a buffer bias beside its weight and bias")


class Versioned(nn.Module):
    """Takes what has no version for a state of its first, in which a gain was a hundredth."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, 4, 2, 2)
        self.gain = nn.Parameter(torch.ones(1))

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, *more: Any
    ) -> None:
        if local_metadata.get("version", 1) < 2:
            state_dict[f"{prefix}gain"] = 100 * state_dict[f"{prefix}gain"]
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *more)


def test_a_state_dict_keeps_the_versions_of_its_modules() -> None:
    model = Versioned()
    cs.swap_module(model)
    state = cs.original_state_dict(model)
    assert list(state) == list(Versioned().state_dict())
    other = Versioned()
    other.load_state_dict(state)
    assert other.gain.item() == 1
    other.load_state_dict(dict(state))  # shows what is at stake
    assert other.gain.item() == 100
