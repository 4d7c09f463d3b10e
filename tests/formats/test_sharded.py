"""Models spread over several files, as Hugging Face saves them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from normcheck.errors import NoModelError, NormcheckError, UnreadableError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.sources.targets import expand

STATE = {
    "layers.0.norm.weight": torch.arange(3.0),
    "layers.1.norm.weight": torch.arange(4.0),
    "layers.10.norm.weight": torch.arange(5.0),
    "head.weight": torch.ones(2, 2, dtype=torch.bfloat16),
}
SAFE, BIN = "model.safetensors", "pytorch_model.bin"


def folder_of_shards(folder: Path, base: str) -> Path:
    """Writes three shards and their index as transformers does; returns the index."""
    stem, suffix = base.split(".")
    placed: dict[str, str] = {}
    for number, names in enumerate([(0, 3), (1,), (2,)], start=1):
        shard = f"{stem}-{number:05d}-of-00003.{suffix}"
        tensors = {list(STATE)[i]: STATE[list(STATE)[i]] for i in names}
        placed |= dict.fromkeys(tensors, shard)
        if base == SAFE:
            save_file(tensors, folder / shard)
        else:
            torch.save(tensors, folder / shard)
    return write_index(folder / f"{base}.index.json", placed)


def write_index(path: Path, placed: Any) -> Path:
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": placed}))
    return path


def placed_by(index: Path) -> dict[str, str]:
    return dict(json.loads(index.read_text())["weight_map"])


@pytest.mark.parametrize("base", [SAFE, BIN])
def test_one_model(base, read, tmp_path: Path) -> None:
    """The shards are one model, its tensors in the order of their names."""
    index = folder_of_shards(tmp_path, base)
    checkpoint = read(index)
    (model,) = checkpoint.models
    assert list(model.tensors) == [
        "head.weight", "layers.0.norm.weight", "layers.1.norm.weight", "layers.10.norm.weight",
    ]  # fmt: skip
    for name, tensor in STATE.items():
        assert model.tensors[name].values().tolist() == tensor.tolist()
    assert "3 shards" in checkpoint.format
    assert checkpoint.name == str(index)
    assert checkpoint.size == sum(f.stat().st_size for f in tmp_path.iterdir() if f != index)
    assert checkpoint.notes == ()


@pytest.mark.parametrize("base", [SAFE, BIN])
def test_folder_as_target(base, tmp_path: Path) -> None:
    """A folder with shards is one target, the index; shards are not listed beside it."""
    index = folder_of_shards(tmp_path, base)
    (tmp_path / "config.json").write_text("{}")
    assert [target.path for target in expand([str(tmp_path)])] == [index]


def test_closing(tmp_path: Path) -> None:
    """Closing the checkpoint closes every shard."""
    checkpoint = read_checkpoint(folder_of_shards(tmp_path, SAFE))
    assert len(checkpoint.sources) == 4
    checkpoint.close()
    for tensor in checkpoint.models[0].tensors.values():
        with pytest.raises(OSError, match="descriptor"):
            tensor.values()


def test_tensors_that_no_index_lists(read, tmp_path: Path) -> None:
    """Tensors of a shard that the index leaves out are no part of the model; a note says so."""
    index = folder_of_shards(tmp_path, SAFE)
    placed = placed_by(index)
    del placed["head.weight"]
    checkpoint = read(write_index(index, placed))
    assert "head.weight" not in checkpoint.models[0].tensors
    assert "1 tensor" in checkpoint.notes[0]


def test_missing_shard(tmp_path: Path) -> None:
    """A missing shard is an error that names it and the index."""
    index = folder_of_shards(tmp_path, SAFE)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(UnreadableError, match="model-00002-of-00003") as caught:
        read_checkpoint(index)
    assert str(index) in caught.value.message
    assert caught.value.hint


def test_damaged_shard(tmp_path: Path) -> None:
    """A damaged shard is an error that names it and the index."""
    index = folder_of_shards(tmp_path, BIN)
    shard = tmp_path / "pytorch_model-00003-of-00003.bin"
    shard.write_bytes(shard.read_bytes()[:-100])
    with pytest.raises(UnreadableError, match="model-00003-of-00003") as caught:
        read_checkpoint(index)
    assert str(index) in caught.value.message


def test_tensor_that_is_not_where_the_index_says(tmp_path: Path) -> None:
    """An index and shards of different versions do not make a model."""
    index = folder_of_shards(tmp_path, SAFE)
    placed = placed_by(index)
    placed["head.weight"] = placed["layers.10.norm.weight"]
    with pytest.raises(UnreadableError, match="weight is not in") as caught:
        read_checkpoint(write_index(index, placed))
    assert "different versions" in caught.value.hint


@pytest.mark.parametrize(
    "shard",
    [
        "../elsewhere.safetensors", "/etc/passwd", "sub/x.safetensors", "..", ".", "", "a\0b",
        "x" * 300, "\ud800.bin", "line\nbreak.bin", "model.safetensors.index.json",
    ],
)  # fmt: skip
def test_index_that_leads_out_of_its_folder(shard: str, tmp_path: Path) -> None:
    """A shard's name must be a file's in the same folder, and not the index itself."""
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"a.weight": torch.ones(1)}, tmp_path / "elsewhere.safetensors")
    index = write_index(folder / "model.safetensors.index.json", {"a.weight": shard})
    with pytest.raises(UnreadableError, match="not a plain file name") as caught:
        read_checkpoint(index)
    assert caught.value.message.isprintable()
    assert caught.value.hint


def test_shard_that_is_a_folder(tmp_path: Path) -> None:
    """A folder in a shard's place is an error, not a crash."""
    (tmp_path / "model-1.safetensors").mkdir()
    index = write_index(tmp_path / "model.safetensors.index.json", {"a": "model-1.safetensors"})
    with pytest.raises(UnreadableError, match="not a regular file"):
        read_checkpoint(index)


def test_shard_with_several_models(tmp_path: Path) -> None:
    """A shard that is a training checkpoint with several models is none."""
    state = {"a.weight": torch.ones(1)}
    torch.save({"model": state, "ema": dict(state)}, tmp_path / "x.bin")
    index = write_index(tmp_path / f"{BIN}.index.json", {"a.weight": "x.bin"})
    with pytest.raises(UnreadableError, match="a shard with 2 models"):
        read_checkpoint(index)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"not json", b"[]", b"3", b"{}", b'{"weight_map": 3}', b'{"weight_map": {"a": 3}}',
        b'{"weight_map": []}', b'{"weight_map": {}}', b"[" * 100_000, b"\xff\xfe\xff",
        b'{"weight_map": {"a": ["x"]}}',
    ],
)  # fmt: skip
def test_damaged_index(content: bytes, tmp_path: Path) -> None:
    """Whatever stands in an index, the outcome is an error that names it."""
    index = tmp_path / "model.safetensors.index.json"
    index.write_bytes(content)
    with pytest.raises(UnreadableError) as caught:
        read_checkpoint(index)
    assert str(index) in caught.value.message
    assert caught.value.hint


def test_index_without_tensors(tmp_path: Path) -> None:
    """An empty index has no model."""
    with pytest.raises(NoModelError):
        read_checkpoint(write_index(tmp_path / f"{BIN}.index.json", {}))


def test_failures_leave_no_files_open(tmp_path: Path) -> None:
    """A hundred failed reads keep no descriptor."""
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("needs /proc")
    index = folder_of_shards(tmp_path, SAFE)
    write_index(index, placed_by(index) | {"not.there": "model-00001-of-00003.safetensors"})
    before = len(list(descriptors.iterdir()))
    for _ in range(100):
        with pytest.raises(NormcheckError):
            read_checkpoint(index)
    assert len(list(descriptors.iterdir())) == before
