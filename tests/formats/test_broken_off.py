"""Files of a torch.save that raised in the middle, as Python leaves them behind."""

import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck.errors import UnreadableError
from normcheck.formats.read_checkpoint import read_checkpoint


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
def test_pickling_that_failed(legacy: bool, tmp_path: Path) -> None:
    """What lies there is named as a save that broke off, whichever format it was."""
    path = tmp_path / "model.pt"
    content = {"model": nn.BatchNorm1d(4).state_dict(), "schedule": lambda step: step}
    with pytest.raises((pickle.PicklingError, AttributeError)):
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UnreadableError, match="broke off"):
        read_checkpoint(path)


def test_a_zip_of_something_else(tmp_path: Path, save: object) -> None:
    """A whole file of the same object is read."""
    path = tmp_path / "model.pt"
    torch.save({"model": nn.BatchNorm1d(4).state_dict(), "schedule": None}, path)
    assert len(read_checkpoint(path).models) == 1
