"""Slips in models of one link or two: told where what is put back fits beyond chance."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck.findings import Finding
from normcheck.rules.rule import CannotTell, Subject
from normcheck.rules.statistics.foreign_stats import check
from tests.norms.settled import anatomy, settle

pytestmark = [pytest.mark.slow, pytest.mark.kernels]
SEEDS = range(4)


class FeedForward(nn.Module):
    """As in a transformer with batch norms: two links, of 64 and 32 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.fc1 = nn.BatchNorm1d(32), nn.Linear(32, 64)
        self.norm2, self.fc2 = nn.BatchNorm1d(64), nn.Linear(64, 32)
        self.norm3 = nn.BatchNorm1d(32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.norm2(self.fc1(self.norm1(x)))
        return self.norm3(self.fc2(y.relu()))  # type: ignore[no-any-return]


def _negate(norm: nn.BatchNorm1d) -> None:
    norm.running_mean.neg_()  # type: ignore[union-attr]


def _swap(norm: nn.BatchNorm1d) -> None:
    bias = norm.bias.data.clone()
    norm.bias.data.copy_(norm.running_mean)  # type: ignore[arg-type]
    norm.running_mean.copy_(bias)  # type: ignore[union-attr]


def _permute(norm: nn.BatchNorm1d) -> None:
    order = torch.randperm(norm.num_features)
    norm.running_mean.copy_(norm.running_mean[order])  # type: ignore[union-attr,index]
    norm.running_var.copy_(norm.running_var[order])  # type: ignore[union-attr,index]


def _model(seed: int, fault: Callable[[nn.BatchNorm1d], None] | None = None) -> nn.Module:
    torch.manual_seed(seed)
    model = settle(FeedForward(), 32, seed=seed)
    for module in model.modules():
        if fault is not None and isinstance(module, nn.BatchNorm1d):
            fault(module)
    return model


def _found(model: nn.Module, folder: Path) -> list[Finding]:
    try:
        return list(check(Subject(anatomy(model, folder))))
    except CannotTell:
        return []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("fault", "names"), [(_negate, "sign"), (_swap, "mean and bias")])
def test_two_links_tell_a_slip(
    tmp_path: Path, seed: int, fault: Callable[[nn.BatchNorm1d], None], names: str
) -> None:
    """What fits once it is put back proves the links as well."""
    (finding,) = _found(_model(seed, fault), tmp_path)
    assert finding.discriminator == names
    assert set(finding.layers) == {"norm2", "norm3"}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fault", [None, _permute], ids=["healthy", "permuted"])
def test_two_links_tell_no_slip_that_nothing_shows(
    tmp_path: Path, seed: int, fault: Callable[[nn.BatchNorm1d], None] | None
) -> None:
    """Nor of unrelated statistics, which fit neither way."""
    assert _found(_model(seed, fault), tmp_path) == []
