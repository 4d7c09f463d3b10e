"""Links that a graph shows: exact through sums, pooling and concatenation."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812  (torch's own convention)

from normcheck import scan
from normcheck.norms.belonging.fit import Fit
from normcheck.norms.belonging.structure.inflow import Activated, Joined, Normed, Summed, moments
from normcheck.norms.layer import Confidence
from tests.formats.exports.models import Residual
from tests.norms.settled import agreement_in

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


class Dense(nn.Module):
    """Concatenated branches, a clip, a leaky slope, a SiLU, an add of the same value."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(3, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU6())
        self.b = nn.Sequential(nn.Conv2d(3, 24, 1), nn.BatchNorm2d(24), nn.LeakyReLU(0.2))
        self.mix = nn.Conv2d(48, 32, 1, bias=False)
        self.norm = nn.BatchNorm2d(32)
        self.next = nn.Conv2d(32, 32, 3, groups=4, bias=False)
        self.norm2 = nn.BatchNorm2d(32)
        self.fc = nn.Linear(32 * 36, 40)
        self.norm3 = nn.BatchNorm1d(40)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.a(x), self.b(x)], 1)
        x = F.silu(self.norm(self.mix(x)))
        x = F.relu(self.norm2(self.next(x)))
        return self.norm3(self.fc(x.flatten(1)))


def _collected(model: nn.Module) -> nn.Module:
    """With the statistics of random input, γ and β off their initial values."""
    torch.manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(0, 0.5)
                module.momentum = None
        model.train()
        for _ in range(30):
            model(torch.randn(64, 3, 8, 8) * 2 + 0.5)
    return model.eval()


def _fits(model: nn.Module, path: Path) -> dict[str, Fit]:
    example = torch.randn(4, 3, 8, 8)
    torch.export.save(torch.export.export(model, (example,)), path)
    return {fit.link.target.path: fit for fit in agreement_in(path).fits}


def test_sums_and_pooling_are_followed(tmp_path: Path) -> None:
    fits = _fits(_collected(Residual()), tmp_path / "model.pt2")
    assert set(fits) == {"bn1", "bn2", "down.1", "bn3", "bn4"}
    for path, fit in fits.items():
        assert fit.explained > 0.9, path
    # Behind a max pooling or a sum a link is not as certain as inside a block.
    certain = {p for p, f in fits.items() if f.link.recognition.confidence is Confidence.HIGH}
    assert certain == {"bn2"}
    assert isinstance(fits["bn3"].link.inflow, Activated)
    assert isinstance(fits["bn3"].link.inflow.inner, Summed)


def test_concatenation_groups_and_flattening_are_followed(tmp_path: Path) -> None:
    fits = _fits(_collected(Dense()), tmp_path / "model.pt2")
    assert set(fits) == {"norm", "norm2", "norm3"}
    for path, fit in fits.items():
        assert fit.explained > 0.9, path
    assert isinstance(fits["norm"].link.inflow, Joined)
    assert fits["norm2"].activation == "SiLU"


def test_moments_of_a_sum_and_a_concatenation() -> None:
    class Layer:
        def __init__(self, gamma: list[float], beta: list[float]) -> None:
            self.features = len(gamma)
            self.weight = type("V", (), {"numbers": np.array(gamma)})()
            self.bias = type("V", (), {"numbers": np.array(beta)})()

    a, b = Normed(Layer([1.0, 2.0], [0.0, 1.0])), Normed(Layer([3.0, 1.0], [2.0, -1.0]))  # type: ignore[arg-type]
    mean, variance = moments(Summed((a, b)), 1.0)
    assert mean.tolist() == [2.0, 0.0]
    assert variance.tolist() == [10.0, 5.0]
    mean, variance = moments(Joined((a, b)), 1.0)
    assert mean.tolist() == [0.0, 1.0, 2.0, -1.0]
    relu = Activated(a, "ReLU", lambda x: np.maximum(x, 0.0))
    mean, variance = moments(relu, 1.0)
    # E[max(x, 0)] of N(0, 1) is 1/√(2π), its variance 1/2 - 1/(2π).
    assert mean[0] == pytest.approx(0.39894, abs=1e-3)
    assert variance[0] == pytest.approx(0.5 - 1 / (2 * np.pi), abs=1e-3)


class Ordered(nn.Module):
    """A bias that a norm subtracts again, and a dropout before a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 16)
        self.norm = nn.BatchNorm1d(16)
        self.drop = nn.Dropout(0.25)
        self.second = nn.Linear(16, 8, bias=False)
        self.last = nn.BatchNorm1d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.drop(F.relu(self.norm(self.first(x))))))


@pytest.mark.parametrize("form", ["traced.pt", "program.pt2"])
def test_what_stands_before_a_norm(form: str, tmp_path: Path) -> None:
    model, example = Ordered(), torch.randn(4, 12)
    model(example)  # norms that never ran subtract no mean
    model.eval()
    path = tmp_path / form
    if form.endswith("pt2"):
        torch.export.save(torch.export.export(model, (example,)), path)
    else:
        torch.jit.save(torch.jit.trace(model, example), path)
    found = {f.rule: f for f in scan(path).findings}
    assert found["NC504"].layers == ("norm",)
    assert "first.bias" in found["NC504"].detail
    assert found["NC505"].layers == ("last",)
    assert "Dropout of up to 0.25" in found["NC505"].detail
