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
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard


def network() -> nn.Module:
    """Channels that two ranks share evenly, and some that they do not."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 9, 3), nn.BatchNorm2d(9), nn.ReLU(), nn.Linear(6, 1))
    model[:2](torch.rand(32, 3, 8, 8))
    return model


def rank(number: int, world: int, hybrid: bool, folder: str) -> None:
    """One process of the run."""
    store = dist.FileStore(f"{folder}.store", world)
    dist.init_process_group("gloo", store=store, rank=number, world_size=world)
    shape, names = ((2, world // 2), ("copies", "shards")) if hybrid else ((world,), ("shards",))
    model = network()
    if number == 0:
        torch.save(model.state_dict(), f"{folder}.whole.pt")
    fully_shard(model, mesh=init_device_mesh("cpu", shape, mesh_dim_names=names))
    torch.save(model.state_dict(), Path(folder, f"model_world_size_{world}_rank_{number}.pt"))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    made, ranks, over = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "hybrid"
    Path(made).mkdir()
    mp.spawn(rank, args=(ranks, over, made), nprocs=ranks)
