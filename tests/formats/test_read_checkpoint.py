"""From a path to a checkpoint: formats by content, and every error with file and hint."""

import io
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import nn

from normcheck.errors import NoModelError, NormcheckError, UnreadableError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.saved.checkpoint import Checkpoint
from tests.formats import by_hand as hand


def state() -> dict[str, torch.Tensor]:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).state_dict()


def torch_bytes(thing: Any, *, legacy: bool = False) -> bytes:
    raw = io.BytesIO()
    torch.save(thing, raw, _use_new_zipfile_serialization=not legacy)
    return raw.getvalue()


FORMATS = {
    "zip": lambda: torch_bytes(state()),
    "legacy": lambda: torch_bytes(state(), legacy=True),
    "pickle": lambda: pickle.dumps(state()),
    "safetensors": lambda: save(state()),
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ["a.pt", "a.safetensors", "a.bin", "a.json", "a"])
def test_the_content_decides(form: str, name: str, read, tmp_path: Path) -> None:
    """The format is told by the bytes, whatever the file is called."""
    path = tmp_path / name
    path.write_bytes(FORMATS[form]())
    checkpoint = read(path)
    assert form in checkpoint.format
    assert "1.running_mean" in checkpoint.models[0].tensors


@pytest.mark.parametrize("form", FORMATS)
def test_truncated_anywhere(form: str, tmp_path: Path) -> None:
    """Cut off at any of hundreds of places, a file is an error that names it, with a hint."""
    whole = FORMATS[form]()
    path = tmp_path / "model.pt"
    offsets = {*range(0, len(whole), max(1, len(whole) // 200)), *range(1, 40), len(whole) - 1}
    for length in sorted(offsets):
        path.write_bytes(whole[:length])
        with pytest.raises(UnreadableError) as caught:
            read_checkpoint(path)
        assert str(path) in caught.value.message
        assert caught.value.hint


@pytest.mark.parametrize(
    ("thing", "words"),
    [
        ({"epoch": 3}, "no model"),
        ([], "no model"),
        (torch.ones(3), "1 tensor"),
        ([torch.ones(3), torch.ones(2)], "2 tensors"),
        ({"loss": torch.ones(()), "acc": 0.5}, "1 tensor"),
        (torch.optim.SGD([torch.ones(1)], 0.1).state_dict(), "optimizer"),
    ],
)
def test_no_model(thing: Any, words: str, tmp_path: Path) -> None:
    """A file without a model says what it has instead."""
    path = tmp_path / "thing.pt"
    torch.save(thing, path)
    with pytest.raises(NoModelError, match=words) as caught:
        read_checkpoint(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


def test_the_error_is_its_own_cause_no_more(tmp_path: Path) -> None:
    """An error that is completed on its way up stays the same error, without a cycle."""
    path = hand.torch_zip(tmp_path / "m.pt", hand.pickled(b"h\x00"))
    with pytest.raises(UnreadableError) as caught:
        read_checkpoint(path)
    assert caught.value.args == (caught.value.message,)
    assert caught.value.__cause__ is not caught.value


def test_closing(tmp_path: Path) -> None:
    """After ``close`` no value can be read any more."""
    path = tmp_path / "model.pt"
    torch.save(state(), path)
    checkpoint = read_checkpoint(path)
    checkpoint.close()
    with pytest.raises(OSError, match="descriptor"):
        checkpoint.models[0].tensors["0.weight"].values()


def test_failures_leave_no_files_open(tmp_path: Path) -> None:
    """Failed reads of every kind keep no descriptor."""
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("needs /proc")
    before = len(list(descriptors.iterdir()))
    path = tmp_path / "model.pt"
    for content in (b"", b"junk", b"PK\x03\x04", b"\x80\x02N.", FORMATS["zip"]()[:-30]):
        path.write_bytes(content)
        with pytest.raises(NormcheckError):
            read_checkpoint(path)
    assert len(list(descriptors.iterdir())) == before


def test_reading_twice(tmp_path: Path) -> None:
    """A file can be open twice, and both readings give the same values."""
    path = tmp_path / "model.pt"
    torch.save(state(), path)
    first, second = (read_checkpoint(path) for _ in range(2))
    assert isinstance(first, Checkpoint)
    for name, tensor in first.models[0].tensors.items():
        assert tensor.values().tolist() == second.models[0].tensors[name].values().tolist()
    first.close()
    second.close()
