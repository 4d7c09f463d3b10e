"""NC103 where an unknown activation would make up for means that are too small.

A residual network calls its ReLUs as functions, so neither a state dict nor a module tree shows
them. Half of a ReLU's means are those of a SiLU: after six batches the weights seem to predict
exactly what is stored. The variances are not taken in.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import update_bn

from normcheck.rules.evidence.residue import carried_by_variances, of_variances
from normcheck.runs.scan import scan
from tests.rules.layers import batch_norm, count, values

BATCH = 64


class _Block(nn.Module):
    def __init__(self, made_of: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(made_of, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.down = nn.Conv2d(made_of, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(y + self.down(x))


class _Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(_Block(16, 16), _Block(16, 24), _Block(24, 24))
        self.head = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(functional.relu(self.bn(self.conv(x)))).mean((2, 3)))


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, Tensor]:
    pixels, labels = load_digits(return_X_y=True)
    x = torch.tensor((pixels / 16 - 0.3) / 0.38, dtype=torch.float32).reshape(-1, 1, 8, 8)
    y = torch.tensor(labels)
    torch.manual_seed(0)
    model = _Residual()
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(4):
        for rows in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    return model, x


def _batches(x: Tensor, count: int) -> Iterator[Tensor]:
    return iter(x.split(BATCH)[:count])


def _reported(model: nn.Module, path: Path) -> list[tuple[str, str]]:
    torch.save(model.state_dict(), path)
    return [(f.rule, f.severity) for f in scan([path]).findings if f.severity.rank]


@pytest.mark.parametrize("batches", [4, 6, 10])
def test_few_batches_of_a_trained_network(
    trained: tuple[nn.Module, Tensor], tmp_path: Path, batches: int
) -> None:
    """Accuracy falls from 99 % to some 50 %: an error, whatever activation would fit."""
    model, x = trained
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    model.train()
    with torch.no_grad():
        for batch in _batches(x, batches):
            model(batch)
    assert ("NC103", "error") in _reported(model, tmp_path / "model.pt")


@pytest.mark.parametrize("batches", [4, 6, 10])
def test_as_many_in_a_plain_average(
    trained: tuple[nn.Module, Tensor], tmp_path: Path, batches: int
) -> None:
    """``update_bn`` leaves the same count and nothing of the initial values."""
    model, x = trained
    update_bn(list(_batches(x, batches)), model)
    assert _reported(model, tmp_path / "model.pt") == []


def _told(smallest: list[float], spread: float, left: float = 0.53) -> bool:
    """Whether layers whose variances begin there, in multiples of what is left, show it."""
    layers = [
        batch_norm(f"bn{i}", running_var=values(left * np.geomspace(s, s * spread, 32)),
                   batches=count(6))
        for i, s in enumerate(smallest)
    ]  # fmt: skip
    return carried_by_variances([(layer, left, of_variances(layer, left)) for layer in layers])


@pytest.mark.parametrize(
    ("smallest", "spread", "shown"),
    [
        ([1.01, 1.1, 1.3, 2.0], 2.0, True),  # most stand just above, and close together
        ([1.01, 1.5, 1.6, 2.0], 2.0, False),  # one does, as one may by chance
        ([1.01, 1.1, 1.3, 2.0], 40.0, False),  # just above, but most variances far away
    ],
)
def test_variances_that_stand_on_what_is_left(
    smallest: list[float], spread: float, *, shown: bool
) -> None:
    """The smallest near the rest in most layers, and half of the typical one made of it."""
    assert _told(smallest, spread) is shown


def test_little_that_is_left_is_no_floor() -> None:
    """Variances of a few hundredths are usual: they stand on nothing."""
    assert not _told([1.01, 1.1, 1.2], 2.0, left=0.05)
