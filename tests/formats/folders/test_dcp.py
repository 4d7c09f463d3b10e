"""Folders of torch.distributed.checkpoint, written by torch itself."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from normcheck.errors import RefusedError, UnreadableError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.formats.targets import expand

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is")


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 2))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A training checkpoint: a model, its optimizer after three steps, a number."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters())
    for _ in range(3):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    state = {"model": model.state_dict(), "optim": optimizer.state_dict(), "epoch": 3}
    dcp.save(state, checkpoint_id=tmp_path / "step-3")
    return tmp_path / "step-3"


def test_one_model(folder: Path, read: Any) -> None:
    """The folder is one checkpoint: the model with its values, the optimizer passed over."""
    saved: dict[str, Any] = {"model": network().state_dict()}
    dcp.load(saved, checkpoint_id=folder)
    checkpoint = read(folder)
    (model,) = checkpoint.models
    assert model.where == "model"
    assert list(model.tensors) == list(saved["model"])
    for name, tensor in saved["model"].items():
        assert model.tensors[name].values().tolist() == tensor.tolist(), name
    assert checkpoint.optimizer_steps == 3
    assert checkpoint.optimizers == 1
    assert "torch.distributed" in checkpoint.format


def test_folder_as_target(folder: Path) -> None:
    """Searching the folder above finds it once, and none of its files."""
    assert [t.path for t in expand([str(folder.parent)])] == [folder]
    (target,) = expand([str(folder)])
    assert target.explicit


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int64])
def test_element_types(dtype: torch.dtype, tmp_path: Path, read: Any) -> None:
    """Whatever they are; a transposed tensor and a scalar among them."""
    state = {
        "a.weight": torch.arange(6).reshape(2, 3).to(dtype),
        "b.weight": torch.arange(6).reshape(2, 3).t().to(dtype),
        "c.weight": torch.tensor(5).to(dtype),
    }
    dcp.save(state, checkpoint_id=tmp_path / "c")
    tensors = read(tmp_path / "c").models[0].tensors
    for name, tensor in state.items():
        assert tensors[name].values().tolist() == tensor.tolist()


def in_chunks(folder: Path, whole: torch.Tensor, boxes: list[tuple[slice, ...]]) -> Path:
    """Writes one tensor as ranks would: each box into a file of its own."""
    folder.mkdir(exist_ok=True)
    chunks, storage = [], {}
    from torch.distributed.checkpoint.filesystem import _StorageInfo

    for rank, box in enumerate(boxes):
        part = whole[box].clone()
        with (folder / f"__{rank}_0.distcp").open("wb") as file:
            file.write(b"before")
            torch.save(part, file)
            length = file.tell() - 6
        offsets = torch.Size([s.start for s in box])
        chunks.append(ChunkStorageMetadata(offsets, part.size()))
        place = _StorageInfo(f"__{rank}_0.distcp", 6, length)
        storage[MetadataIndex("bn.weight", offsets, rank)] = place
    described = TensorStorageMetadata(TensorProperties(whole.dtype), whole.size(), chunks)
    metadata = Metadata({"bn.weight": described}, None, storage)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    return folder


def test_tensor_over_several_files(tmp_path: Path, read: Any) -> None:
    """Chunks of ranks are put together, along one dimension and along two."""
    row = torch.arange(10.0)
    boxes: list[tuple[slice, ...]] = [(slice(0, 4),), (slice(4, 8),), (slice(8, 10),)]
    tensors = read(in_chunks(tmp_path / "a", row, boxes)).models[0].tensors
    assert tensors["bn.weight"].values().tolist() == row.tolist()
    square = torch.arange(24, dtype=torch.bfloat16).reshape(4, 6)
    halves = (slice(0, 2), slice(2, 4)), (slice(0, 3), slice(3, 6))
    boxes = [(a, b) for a in halves[0] for b in halves[1]]
    tensors = read(in_chunks(tmp_path / "b", square, boxes)).models[0].tensors
    assert tensors["bn.weight"].values().tolist() == square.tolist()


def test_chunk_that_is_missing(tmp_path: Path) -> None:
    """Chunks that leave a gap make no tensor."""
    folder = in_chunks(tmp_path / "a", torch.arange(10.0), [(slice(0, 4),), (slice(5, 10),)])
    with pytest.raises(UnreadableError, match="pieces do not make up") as caught:
        read_checkpoint(folder)
    assert str(folder) in caught.value.message


def test_file_that_is_missing(folder: Path) -> None:
    """A file that is gone is an error when its tensors are read, and names it."""
    next(folder.glob("*.distcp")).rename(folder / "__9_9.distcp")
    with pytest.raises(UnreadableError, match=r"__0_0\.distcp"):
        read_checkpoint(folder)


def test_damaged_file(folder: Path) -> None:
    """Damage in a chunk shows by its checksum."""
    checkpoint = read_checkpoint(folder)
    mean = checkpoint.models[0].tensors["1.weight"].values().tobytes()
    checkpoint.close()
    path = next(folder.glob("*.distcp"))
    data = bytearray(path.read_bytes())
    data[data.index(mean)] ^= 1
    path.write_bytes(data)
    checkpoint = read_checkpoint(folder)
    with pytest.raises(UnreadableError, match="checksum"):
        checkpoint.models[0].tensors["1.weight"].values()
    checkpoint.close()
    with pytest.raises(RuntimeError, match="closed"):
        checkpoint.models[0].tensors["1.bias"].values()


@pytest.mark.parametrize("file", ["../elsewhere", "/etc/passwd", "a/b", "..", "", "x" * 300])
def test_metadata_that_lead_out_of_the_folder(file: str, folder: Path) -> None:
    """A chunk lies in a file of the folder, whatever the metadata say."""
    path = folder / ".metadata"
    metadata = pickle.loads(path.read_bytes())
    for info in metadata.storage_data.values():
        info.relative_path = file
    path.write_bytes(pickle.dumps(metadata))
    with pytest.raises(UnreadableError, match="no plain file name"):
        read_checkpoint(folder)


@pytest.mark.parametrize("content", [b"", b"no pickle", pickle.dumps({}), pickle.dumps([1])])
def test_damaged_metadata(content: bytes, folder: Path) -> None:
    """Metadata that are none are an error with a hint."""
    (folder / ".metadata").write_bytes(content)
    with pytest.raises(UnreadableError) as caught:
        read_checkpoint(folder)
    assert caught.value.hint


def test_shape_that_is_too_large(folder: Path) -> None:
    """A shape on the metadata's word alone allocates nothing."""
    path = folder / ".metadata"
    metadata = pickle.loads(path.read_bytes())
    described = metadata.state_dict_metadata["model.1.weight"]
    described.size = torch.Size([1 << 60])
    described.chunks[0].sizes = torch.Size([1 << 60])
    path.write_bytes(pickle.dumps(metadata))
    with pytest.raises(RefusedError):
        read_checkpoint(folder)


def test_only_a_hundred_files_are_open(tmp_path: Path) -> None:
    """A thousand ranks do not take a thousand descriptors."""
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("needs /proc")
    boxes: list[tuple[slice, ...]] = [(slice(n, n + 1),) for n in range(150)]
    folder = in_chunks(tmp_path / "a", torch.arange(150.0), boxes)
    before = len(list(descriptors.iterdir()))
    checkpoint = read_checkpoint(folder)
    values = checkpoint.models[0].tensors["bn.weight"].values()
    assert values.tolist() == list(range(150))
    assert len(list(descriptors.iterdir())) - before <= 101
    checkpoint.close()
    assert len(list(descriptors.iterdir())) == before
