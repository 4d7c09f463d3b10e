"""Folders of FSDP's ranks, written by ranks of a real run."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

import normcheck
from normcheck.errors import UnreadableError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.formats.targets import expand
from normcheck.saved.tensors import TensorShard
from tests.conftest import PATIENCE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (dist.is_available() and dist.is_gloo_available()), reason="needs gloo"),
]
PROGRAM = Path(__file__).with_name("ranks_of_fsdp.py")


def saved(folder: Path, world: int, how: str) -> Path:
    words = [sys.executable, str(PROGRAM), str(folder), str(world), how]
    subprocess.run(words, check=True, capture_output=True, timeout=PATIENCE)
    return folder


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ranks: nine channels are five and four, and one is all of the first."""
    return saved(tmp_path_factory.mktemp("fsdp") / "step", 2, "flat")


@pytest.fixture
def folder(two: Path, tmp_path: Path) -> Path:
    """The same, to change."""
    return Path(shutil.copytree(two, tmp_path / "step"))


def whole(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(f"{folder}.whole.pt", weights_only=True)
    return state


def test_shards_make_the_whole(two: Path, read: Any) -> None:
    """Every value is where it was, whichever rank had it."""
    checkpoint = read(two)
    (model,) = checkpoint.models
    state = whole(two)
    assert list(model.tensors) == list(state)
    for name, tensor in state.items():
        assert model.tensors[name].values().tolist() == tensor.tolist(), name
    assert checkpoint.format == "FSDP checkpoint, 2 files"


@pytest.mark.parametrize("world", [2, 3])
def test_sharded_tensors(world: int, tmp_path: Path, read: Any) -> None:
    """Those of FSDP 1: the folder is the whole, and one rank by itself is named as a part."""
    folder = saved(tmp_path / "step", world, "ShardedTensor")
    (model,) = read(folder).models
    state = whole(folder)
    assert list(model.tensors) == list(state)
    for name, tensor in state.items():
        assert model.tensors[name].values().tolist() == tensor.tolist(), name
    last = folder / f"model_world_size_{world}_rank_{world - 1}.pt"
    part = read(last).models[0].tensors["1.weight"]
    assert (part.shape, part.readable) == ((9,), False)
    with pytest.raises(UnreadableError, match="cut over ranks"):
        part.values()


def test_sharded_tensors_in_another_order(tmp_path: Path) -> None:
    """Where a part begins stands in the file: others under its name are found out."""
    folder = saved(tmp_path / "step", 3, "ShardedTensor")
    one, two = (folder / f"model_world_size_3_rank_{number}.pt" for number in (1, 2))
    one.rename(tmp_path / "other")
    two.rename(one)
    (tmp_path / "other").rename(two)
    with pytest.raises(UnreadableError, match="do not follow"):
        read_checkpoint(folder)


def test_hybrid_shards(tmp_path: Path, read: Any) -> None:
    """The first half of the ranks is the model, the others hold copies."""
    folder = saved(tmp_path / "step", 4, "hybrid")
    (model,) = read(folder).models
    state = whole(folder)
    assert all(model.tensors[n].values().tolist() == t.tolist() for n, t in state.items())


def test_one_rank_by_itself(two: Path, read: Any) -> None:
    """What is whole on each rank is judged; what is cut has no values, and says why."""
    checkpoint = read(two / "model_world_size_2_rank_1.pt")
    tensors = checkpoint.models[0].tensors
    assert tensors["1.running_var"].values().tolist() == whole(two)["1.running_var"].tolist()
    assert isinstance(tensors["1.weight"], TensorShard)
    assert tensors["1.weight"].shape == (9,)
    with pytest.raises(UnreadableError, match="cut over ranks"):
        tensors["1.weight"].values()


def test_folder_as_target(folder: Path) -> None:
    """One target, and none of its files, the optimizer's neither."""
    torch.save({"state": {}}, folder / "optim_world_size_2_rank_0.pt")
    torch.save({"lr": 0.1}, folder / "extra_state_world_size_2_rank_0.pt")
    assert [target.path for target in expand([str(folder.parent)])] == [folder]
    report = normcheck.scan(folder)
    assert report.errors == ()
    assert [(model.target, len(model.layers)) for model in report.models] == [(str(folder), 1)]


def test_a_missing_rank(folder: Path) -> None:
    """Names the rank: nobody guesses a part of each weight."""
    (folder / "model_world_size_2_rank_1.pt").unlink()
    with pytest.raises(UnreadableError, match="rank 1 of 2 is missing"):
        read_checkpoint(folder)


def test_files_of_two_saves(folder: Path) -> None:
    """Over another number of ranks, or of another model."""
    first = folder / "model_world_size_2_rank_0.pt"
    stale = folder / "model_world_size_4_rank_0.pt"
    shutil.copy(first, stale)
    with pytest.raises(UnreadableError, match="2 and 4 ranks"):
        read_checkpoint(folder)
    stale.unlink()
    torch.save({"1.running_mean": torch.ones(9)}, folder / "model_world_size_2_rank_1.pt")
    with pytest.raises(UnreadableError, match="parts of different tensors") as caught:
        read_checkpoint(folder)
    assert caught.value.hint
    shutil.copy(first, folder / "model_world_size_2_rank_1.pt")
    with pytest.raises(UnreadableError, match="do not make up the tensor"):
        read_checkpoint(folder)


def test_failures_leave_no_files_open(folder: Path) -> None:
    """A hundred failed reads keep no descriptor."""
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("needs /proc")
    (folder / "model_world_size_2_rank_1.pt").write_bytes(b"nothing")
    before = len(list(descriptors.iterdir()))
    for _ in range(100):
        with pytest.raises(UnreadableError):
            read_checkpoint(folder)
    assert len(list(descriptors.iterdir())) == before
