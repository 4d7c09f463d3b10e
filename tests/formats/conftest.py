"""What the tests of the readers share: saving with torch, reading with normcheck."""

import importlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.saved.checkpoint import Checkpoint, SavedModel
from tests.formats.watched import folder, marker, read_all

__all__ = ["folder", "marker", "read_all"]

Save = Callable[..., Path]
Read = Callable[..., Checkpoint]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Saves a thing with ``torch.save`` and returns the path."""

    def saved(thing: Any, name: str = "model.pt", *, legacy: bool = False) -> Path:
        path = tmp_path / name
        torch.save(thing, path, _use_new_zipfile_serialization=not legacy)
        return path

    return saved


@pytest.fixture
def read(save: Save) -> Iterator[Read]:
    """Reads a path, or saves a thing and reads that; closes everything at the end."""
    opened: list[Checkpoint] = []

    def reading(thing: Any, *, legacy: bool = False) -> Checkpoint:
        path = thing if isinstance(thing, Path) else save(thing, legacy=legacy)
        opened.append(read_checkpoint(path))
        return opened[-1]

    yield reading
    for checkpoint in opened:
        checkpoint.close()


@pytest.fixture
def read_one(read: Read) -> Callable[..., SavedModel]:
    """As ``read``, for files with exactly one model: that model."""

    def reading(thing: Any, *, legacy: bool = False) -> SavedModel:
        (model,) = read(thing, legacy=legacy).models
        return model

    return reading


VANISHED = '''
import torch
from torch import nn


class Block(nn.Module):
    """A block of a class that nobody can import when the file is read."""

    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.norm = nn.BatchNorm2d(width, eps=1e-3, momentum=None)
        self.act = nn.ReLU()
        self.title = "block"
        self.sizes = [1, 2]

    def forward(self, x):
        return self.act(self.norm(self.conv(x)))


class Settings:
    def __init__(self):
        self.rate = 0.1


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = Block(4)
        self.body = nn.Sequential(Block(5), nn.GroupNorm(1, 5))
        self.settings = Settings()
'''


@pytest.fixture
def vanished(tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """Gives classes of a module that can no longer be imported once the file is written.

    Call with a class's name; ``vanished.gone()`` takes the module away.
    """
    folder = tmp_path / "code"
    folder.mkdir()
    folder.joinpath("vanished_code.py").write_text(VANISHED)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    module = importlib.import_module("vanished_code")

    def gone() -> None:
        sys.modules.pop("vanished_code", None)
        if str(folder) in sys.path:
            sys.path.remove(str(folder))
        folder.joinpath("vanished_code.py").unlink(missing_ok=True)
        importlib.invalidate_caches()

    def get(name: str) -> Any:
        return getattr(module, name)

    get.gone = gone  # type: ignore[attr-defined]
    yield get
    gone()


@pytest.fixture
def python() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs Python source in a process of its own, with the words as ``sys.argv[1:]``."""

    def run(source: str, *words: object, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", source, *map(str, words)],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run
