"""Two processes that train a sharded model, save it and read it again; run by its test alone."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from tests.matrix import swapped
from tools.compatibility import KINDS

RANKS = 2
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def build(kind: str, seed: int = 0) -> Any:
    """A patch embedding between layers, in float64."""
    torch.manual_seed(seed)
    layers = (nn.Conv2d(3, 6, 4, 4), nn.GELU(), nn.Flatten(2), nn.Linear(4, 2))
    return swapped(nn.Sequential(*layers).double(), kind)


def batch() -> Tensor:
    """What all ranks together train on; the kernel does not divide its size."""
    return torch.randn(4, 3, 9, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def work(rank: int, folder: Path) -> None:
    """What one process does, for each kind; the first writes down what came out."""
    # The name of a machine may not lead to itself; its loopback does.
    loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
    os.environ["GLOO_SOCKET_IFNAME"] = loopback
    # They meet in a file, so that no port has to be free.
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS
    )
    try:
        found = {kind: _trained(kind, rank, folder / f"{kind}.dcp") for kind in KINDS}
        if rank == 0:
            torch.save(found, folder / "found.pt")
    finally:
        dist.destroy_process_group()


def _trained(kind: str, rank: int, place: Path) -> dict[str, Any]:
    mesh, model = init_device_mesh("cpu", (RANKS,)), build(kind)
    _shard(model, mesh)
    mine = batch().chunk(RANKS)[rank]
    out: Tensor = model(mine)
    loss: Any = out.square().mean()
    loss.backward()
    shards = {name: _whole(p.grad) for name, p in model.named_parameters()}
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    trained = get_model_state_dict(model, options=WHOLE)
    save({"model": get_model_state_dict(model)}, checkpoint_id=place)
    again = build(kind, seed=1)
    _shard(again, mesh)
    state = {"model": get_model_state_dict(again)}
    load(state, checkpoint_id=place)
    set_model_state_dict(again, state["model"])
    with torch.no_grad():
        same = torch.equal(again(mine), model(mine))
    found = {"out": out.detach(), "gradients": shards, "trained": trained, "reloaded": same}
    return {**found, "replicated": _replicated(build(kind), mine)}


def _replicated(model: Any, mine: Tensor) -> dict[str, Tensor]:
    whole: Any = DistributedDataParallel(model)
    loss: Any = whole(mine).square().mean()
    loss.backward()
    return {name: p.grad for name, p in model.named_parameters()}


def _shard(model: Any, mesh: Any) -> None:
    for layer in (model[0], model[3], model):
        fully_shard(layer, mesh=mesh)
    assert all(type(p).__name__ == "DTensor" for p in model.parameters())


def _whole(shard: Any) -> Tensor:
    whole: Tensor = shard.full_tensor()
    return whole
