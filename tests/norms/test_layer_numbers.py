"""What is worked out of a layer's few dozen numbers."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import spectral_norm

from normcheck import scan
from normcheck.norms.layer_numbers import cut, deviation


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 33, 128, 513])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_deviation_is_the_one_of_numpy(size: int, scale: float) -> None:
    """To the last bit, whatever numpy's sum adds up first."""
    values = np.random.default_rng(size).normal(3.0, 2.0, size) * scale
    before = values.copy()
    assert deviation(values) == values.std()
    assert (values == before).all()


@pytest.mark.parametrize("whole", [False, True])
def test_signalling_nans_are_widened_without_a_warning(tmp_path: Path, *, whole: bool) -> None:
    """Numpy says so when it widens one; a rule finds it instead."""
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), spectral_norm(nn.Linear(4, 4)))
    signalling = torch.full((4,), 0x7F80_0001, dtype=torch.int32).view(torch.float32)
    for name, tensor in model.state_dict().items():
        if name in ("1.running_mean", "1.weight", "2.weight_u"):
            tensor.copy_(signalling)
    torch.save(model if whole else model.state_dict(), tmp_path / "model.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report = scan(tmp_path / "model.pt")
    assert not report.errors
    assert "NC104" in {finding.rule for finding in report.findings}


def test_numbers_taken_apart_are_those_put_together() -> None:
    """Parts of any size, none and one number among them, over the same memory."""
    parts = [np.arange(size, dtype=np.float64) + 10 * size for size in (3, 0, 1, 7)]
    whole = np.concatenate(parts)
    taken = cut(whole, [part.size for part in parts])
    assert [part.tolist() for part in taken] == [part.tolist() for part in parts]
    assert all(part.base is whole for part in taken)
