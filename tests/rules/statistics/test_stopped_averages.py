"""NC108: means that are too small since averages in bfloat16 stop before they arrive."""

from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck.findings import Finding
from normcheck.runs.scan import scan
from tests.norms.settled import conv_net, settle

pytestmark = [pytest.mark.slow, pytest.mark.kernels]
BATCHES = 600


def _averaged(value: torch.Tensor, start: float, momentum: float) -> torch.Tensor:
    """A running average as ``nn.BatchNorm2d`` keeps it in the type of ``value``."""
    average = torch.full_like(value, start)
    for _ in range(BATCHES):
        average = (1 - momentum) * average + momentum * value
    return average


def _scanned(file: Path, momentum: float, dtype: torch.dtype, seed: int) -> list[Finding]:
    """A network whose statistics were collected in a type, from the initial values."""
    torch.manual_seed(seed)
    net = settle(conv_net(nn.ReLU(), blocks=5), 3, 8, 8, seed=seed).to(dtype)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.momentum = momentum
            module.running_mean = _averaged(module.running_mean, 0.0, momentum)
            module.running_var = _averaged(module.running_var, 1.0, momentum)
    torch.save(net, file)
    return [f for f in scan([file]).findings if f.rule == "NC108" and f.severity.rank]


@pytest.mark.parametrize("seed", range(2))
def test_the_type_is_named(seed: int, tmp_path: Path) -> None:
    """Where a slow average of bfloat16 stands still, and what to do about it."""
    (found,) = _scanned(tmp_path / "m.pt", 0.01, torch.bfloat16, seed)
    assert "bfloat16" in found.title
    assert "float32" in found.fix


def test_float32_at_the_same_momentum(tmp_path: Path) -> None:
    """Arrives, and is well."""
    assert not _scanned(tmp_path / "m.pt", 0.01, torch.float32, 0)


def test_bfloat16_at_the_usual_momentum(tmp_path: Path) -> None:
    """Stops so near that nothing is wrong."""
    assert not _scanned(tmp_path / "m.pt", 0.1, torch.bfloat16, 0)


def test_other_units_in_bfloat16(tmp_path: Path) -> None:
    """A factor that no stopped average leaves, at a momentum that is known, keeps its name."""
    torch.manual_seed(0)
    net = settle(conv_net(nn.ReLU(), blocks=5), 3, 8, 8)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.momentum = 0.1
            module.running_mean.mul_(0.5)
            module.running_var.mul_(0.25)
    torch.save(net.bfloat16(), tmp_path / "m.pt")
    (found,) = [f for f in scan([tmp_path / "m.pt"]).findings if f.rule == "NC108"]
    assert "bfloat16" not in found.title
