"""Two processes that train a model with or without a drop-in, against one that does it alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist

import convsurgeon as cs
from tests.matrix import works
from tests.sharded import RANKS, batch, build, work

Found = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What two processes made of each kind."""
    if not dist.is_available() or not dist.is_gloo_available():
        pytest.skip("this torch has no gloo")
    folder = tmp_path_factory.mktemp("sharded")
    processes: Any = torch.multiprocessing
    processes.spawn(work, (folder,), nprocs=RANKS)
    results: Found = torch.load(folder / "found.pt")
    return results


def close(first: torch.Tensor, second: torch.Tensor) -> bool:
    return torch.allclose(first, second, rtol=1e-12, atol=1e-14)


@works("fsdp2")
def test_two_processes_train_as_one(kind: str, found: Found) -> None:
    model, mine = build(kind), found[kind]
    out = model(batch())
    assert close(mine["out"], out.chunk(RANKS)[0])
    out.square().mean().backward()
    for name, parameter in model.named_parameters():
        assert close(mine["gradients"][name], parameter.grad)
        assert parameter.grad.abs().max() > 1e-3
    before = {key: value.clone() for key, value in model.state_dict().items()}
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert list(mine["trained"]) == list(model.state_dict())
    for key, value in model.state_dict().items():
        assert close(mine["trained"][key], value)
        assert not close(before[key], value)
    assert mine["reloaded"]


@works("ddp")
def test_two_processes_with_a_whole_model_each(kind: str, found: Found) -> None:
    model, mine = build(kind), found[kind]["replicated"]
    model(batch()).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert close(mine[name], parameter.grad)
    model.zero_grad()
    model(batch()[:2]).square().mean().backward()  # what one process would have by itself
    assert not all(close(mine[name], p.grad) for name, p in model.named_parameters())


@works("fsdp2")
def test_what_was_trained_in_parts_goes_back(kind: str, found: Found) -> None:
    model, plain = build(kind, seed=1), build("conv", seed=1)
    model.load_state_dict(found[kind]["trained"])
    want = model(batch())
    if kind != "conv":
        assert not cs.restore_module(model).refused
    plain.load_state_dict(model.state_dict())
    assert close(plain(batch()), want)
    for key, value in plain.state_dict().items():
        assert close(value, found["conv"]["trained"][key])
