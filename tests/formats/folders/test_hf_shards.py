"""Shards that torch's HuggingFaceStorageWriter leaves, one or more of each rank."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.checkpoint import HuggingFaceStorageWriter

from normcheck.errors import UnreadableError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.formats.targets import expand
from tests.formats.folders.ranks_of_dcp import save_by_ranks

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 12)).state_dict()


def shard(folder: Path, rank: int, pieces: dict[str, tuple[Tensor, list[int]]]) -> None:
    """One rank's file, as torch lays it out."""
    info = {name: {"saved_offsets": at} for name, (_, at) in pieces.items()}
    folder.mkdir(exist_ok=True)
    save_file(
        {name: tensor.contiguous() for name, (tensor, _) in pieces.items()},
        folder / f"shard-{rank + 1:05}-model-00001-of-00001.safetensors",
        {"DCP_VERSION": "1.0", "DCP_SHARDING_INFO": json.dumps(info)},
    )


def cut(folder: Path, dim: int = 0) -> dict[str, Tensor]:
    """Weights cut over two ranks, the rest written by one of them."""
    whole = state()
    ranks: list[dict[str, tuple[Tensor, list[int]]]] = [{}, {}]
    for name, tensor in whole.items():
        if tensor.ndim >= 2:
            at = 0
            for rank, piece in enumerate(tensor.chunk(2, dim)):
                ranks[rank][name] = piece, [at if d == dim else 0 for d in range(tensor.ndim)]
                at += piece.shape[dim]
        else:
            ranks[len(name) % 2][name] = tensor, [0] * tensor.ndim
    for rank, pieces in enumerate(ranks):
        shard(folder, rank, pieces)
    return whole


@pytest.mark.parametrize("world", [1, 2, 3])
def test_written_by_torch(world: int, tmp_path: Path, read: Any) -> None:
    """One model of all ranks' files, each tensor with its values."""
    writer = HuggingFaceStorageWriter(path=str(tmp_path / "step"), save_distributed=True)
    folder = save_by_ranks([state()] * world, tmp_path / "step", writer)
    (target,) = expand([str(tmp_path)])
    assert target.path == folder
    (model,) = read(folder).models
    assert model.tensors.keys() == state().keys()
    for name, tensor in state().items():
        assert model.tensors[name].values().tolist() == tensor.tolist()
    assert not read(folder).notes


@pytest.mark.parametrize("dim", [0, 1])
def test_pieces_are_joined(dim: int, tmp_path: Path, read: Any) -> None:
    """By their offsets, along whatever dimension they were cut."""
    whole = cut(tmp_path / "step", dim)
    (model,) = read(tmp_path / "step").models
    for name, tensor in whole.items():
        assert model.tensors[name].values().tolist() == tensor.tolist()


def test_a_piece_alone(tmp_path: Path, read: Any) -> None:
    """Named outright it is read, with the note that it is a piece."""
    cut(tmp_path / "step")
    (note,) = read(min((tmp_path / "step").iterdir())).notes
    assert "piece of a model" in note


def test_missing_shard(tmp_path: Path) -> None:
    """A gap in the ranks, or in a tensor, is an error that says which."""
    for rank in (0, 2):
        shard(tmp_path / "gap", rank, {"0.weight": (torch.ones(2, 2), [2 * rank, 0])})
    with pytest.raises(UnreadableError, match="shard 2 is missing"):
        read_checkpoint(tmp_path / "gap")
    shard(tmp_path / "hole", 0, {"0.weight": (torch.ones(2, 2), [2, 0])})
    with pytest.raises(UnreadableError, match="do not make up"):
        read_checkpoint(tmp_path / "hole")


@pytest.mark.parametrize(
    "info",
    ["[]", "{", '{"0.weight": {}}', '{"0.weight": {"saved_offsets": [-1, 0]}}',
     '{"0.weight": {"saved_offsets": [4611686018427387904, 0]}}',
     '{"0.weight": {"saved_offsets": [0]}}', '{"0.weight": {"saved_offsets": [true, 0]}}'],
)  # fmt: skip
def test_damaged_information(info: str, tmp_path: Path) -> None:
    """Offsets that are none end in an error."""
    tensors = {"0.weight": torch.ones(2, 2)}
    for rank in (1, 2):
        path = tmp_path / f"shard-0000{rank}-model-00001-of-00001.safetensors"
        save_file(tensors, path, {"DCP_SHARDING_INFO": info})
    with pytest.raises(UnreadableError):
        read_checkpoint(tmp_path)
