"""Saves a small network as the ranks of an FSDP run do: ``python ranks_of_fsdp.py FOLDER``.

A program of its own, as each rank is a process. ``whole.pt`` beside the folder is what all
hold together.
"""

import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed._shard.sharded_tensor import Shard, init_from_local_shards
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard


def network() -> nn.Module:
    """Channels that two ranks share evenly, and some that they do not."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 9, 3), nn.BatchNorm2d(9), nn.ReLU(), nn.Linear(6, 1))
    model[:2](torch.rand(32, 3, 8, 8))
    return model


def in_shards(state: dict[str, torch.Tensor], number: int, world: int) -> dict[str, object]:
    """Parameters as FSDP 1 chunks them, which itself does not start without an accelerator."""
    made: dict[str, object] = {}
    for name, tensor in state.items():
        if not name.endswith(("weight", "bias")):
            made[name] = tensor
            continue
        step = -(-len(tensor) // world)
        start = number * step
        local = tensor[start : start + step].clone()
        offsets = [start, *[0] * (tensor.ndim - 1)]
        shards = [Shard.from_tensor_and_offsets(local, offsets, number)] if len(local) else []
        made[name] = init_from_local_shards(shards, *tensor.shape)
    return made


def rank(number: int, world: int, how: str, folder: str) -> None:
    """One process of the run."""
    hybrid = how == "hybrid"
    store = dist.FileStore(f"{folder}.store", world)
    dist.init_process_group("gloo", store=store, rank=number, world_size=world)
    shape, names = ((2, world // 2), ("copies", "shards")) if hybrid else ((world,), ("shards",))
    model = network()
    if number == 0:
        torch.save(model.state_dict(), f"{folder}.whole.pt")
    if how == "ShardedTensor":
        shards = in_shards(model.state_dict(), number, world)
        torch.save(shards, Path(folder, f"model_world_size_{world}_rank_{number}.pt"))
        dist.barrier()
        dist.destroy_process_group()
        return
    fully_shard(model, mesh=init_device_mesh("cpu", shape, mesh_dim_names=names))
    torch.save(model.state_dict(), Path(folder, f"model_world_size_{world}_rank_{number}.pt"))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    made, ranks, over = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    Path(made).mkdir()
    mp.spawn(rank, args=(ranks, over, made), nprocs=ranks)
