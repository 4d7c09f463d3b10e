"""Distributed checkpoints that several ranks wrote: their order, and whose statistics they hold."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from tests.conftest import SAMPLES
from tests.formats.folders.ranks_of_dcp import save_by_ranks
from tests.verdict import accused

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is", "ignore::FutureWarning")


def ranks(model: str, world: int, folder: Path) -> Path:
    """A sample model in a folder that so many ranks wrote."""
    state = torch.load(SAMPLES / model, weights_only=True)
    return save_by_ranks([{"model": state}] * world, folder / "step")


@pytest.mark.parametrize("world", [1, 2, 4])
def test_judged_as_from_one_file(world: int, tmp_path: Path, read: Any) -> None:
    """Keys come in the model's order, and statistics are judged as in a file of one process."""
    healthy = ranks("digits-healthy.pt", world, tmp_path)
    (model,) = read(healthy).models
    assert model.ordered
    assert list(model.tensors) == list(torch.load(SAMPLES / "digits-healthy.pt"))
    assert not accused(healthy)
    assert "NC108" in accused(ranks("foreign-statistics.pt", world, tmp_path / "foreign"))


@pytest.mark.parametrize("world", [2, 4])
def test_converted_to_one_file(world: int, tmp_path: Path, read: Any) -> None:
    """The converter of torch keeps the order of the ranks: nothing is read out of that order."""
    path = tmp_path / "model.pt"
    dcp_to_torch_save(ranks("digits-healthy.pt", world, tmp_path), path)
    (model,) = read(path).models
    assert not model.ordered
    assert model.tensors.keys() == torch.load(SAMPLES / "digits-healthy.pt").keys()
    assert not accused(path)


def test_whose_statistics(tmp_path: Path, read: Any) -> None:
    """Statistics of several ranks are a note, those of one are none."""
    (note,) = read(ranks("digits-healthy.pt", 3, tmp_path)).notes
    assert "stored by 3 ranks" in note
    assert "come from different ranks" in note
    assert not read(ranks("digits-healthy.pt", 1, tmp_path / "one")).notes
