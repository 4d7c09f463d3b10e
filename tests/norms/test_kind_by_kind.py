"""Networks that register all weights and then all norms, and use one of each in turn."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck.norms.layer import Confidence
from normcheck.runs.scan import scan
from tests.norms.settled import anatomy, settle

pytestmark = pytest.mark.kernels


class KindByKind(nn.Module):
    """``conv1, conv2, …, bn1, bn2, …``, with two matrices behind."""

    def __init__(self, widths: Sequence[int], conv: str = "conv{}", bn: str = "bn{}") -> None:
        super().__init__()
        self.names = [(conv.format(n), bn.format(n)) for n in range(1, len(widths) + 1)]
        for (name, _), takes, makes in zip(self.names, (3, *widths), widths, strict=False):
            setattr(self, name, nn.Conv2d(takes, makes, 3, padding=1))
        self.fc1, self.fc2 = nn.Linear(widths[-1], 20), nn.Linear(20, 4)
        for (_, name), makes in zip(self.names, widths, strict=True):
            setattr(self, name, nn.BatchNorm2d(makes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv, bn in self.names:
            x = getattr(self, bn)(getattr(self, conv)(x)).relu()
        scores: torch.Tensor = self.fc2(self.fc1(x.mean((2, 3))).relu())
        return scores


NETWORKS: list[Callable[[], nn.Module]] = [
    lambda: KindByKind((16, 32, 64, 48)),
    lambda: KindByKind((32, 32, 32, 32)),
    lambda: KindByKind((16, 32, 48, 64), "layer_{}", "batchnorm{}"),
]


@pytest.mark.parametrize("build", NETWORKS)
@pytest.mark.parametrize("seed", range(3))
def test_each_norm_is_judged_by_the_weights_of_its_number(
    tmp_path: Path, build: Callable[[], nn.Module], seed: int
) -> None:
    """Their statistics are vouched for, though no norm stands behind weights in the file."""
    torch.manual_seed(seed)
    model = settle(build(), 3, 16, 16, seed=seed)
    report = scan([_saved(model, tmp_path)])
    assert report.models[0].agreement is not None
    assert len(report.models[0].agreement.agreeing) == 3
    assert not [f for f in report.findings if f.severity.rank]


@pytest.mark.parametrize("build", NETWORKS)
@pytest.mark.parametrize("seed", range(3))
def test_other_statistics_are_not_vouched_for(
    tmp_path: Path, build: Callable[[], nn.Module], seed: int
) -> None:
    """Channels in another order, in every norm: what fits nothing is accused here, too."""
    torch.manual_seed(seed)
    model = settle(build(), 3, 16, 16, seed=seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            order = torch.randperm(module.num_features)
            for buffer in (module.running_mean, module.running_var):
                buffer.copy_(buffer[order].clone())  # type: ignore[union-attr, operator]
    report = scan([_saved(model, tmp_path)])
    assert report.models[0].agreement is not None
    assert not report.models[0].agreement.agreeing
    assert "NC108" in {f.rule for f in report.findings}


class _SideBySide(nn.Module):
    """Two branches of one width over the same input, and a third layer over their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(32, 32, 3, padding=1) for _ in range(2))
        self.conv3 = nn.Conv2d(32, 32, 3, padding=1)
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2d(32) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        both = self.bn1(self.conv1(x)).relu() + self.bn2(self.conv2(x)).relu()
        normed: torch.Tensor = self.bn3(self.conv3(both))
        return normed


@pytest.mark.parametrize("seed", range(6))
def test_branches_that_only_look_like_a_chain_are_not_accused(tmp_path: Path, seed: int) -> None:
    """A number in a name is a guess, and a guess convicts nobody."""
    torch.manual_seed(seed)
    model = settle(_SideBySide(), 32, 12, 12, seed=seed)
    report = scan([_saved(model, tmp_path)])
    assert not [f for f in report.findings if f.severity.rank]


def test_links_by_number_are_never_certain(tmp_path: Path) -> None:
    """Whatever fits: the file does not show the order."""
    model = settle(KindByKind((16, 32, 64)), 3, 8, 8)
    found = anatomy(model, tmp_path).agreement
    assert found is not None
    assert {fit.link.recognition.confidence for fit in found.fits} == {Confidence.MEDIUM}


def test_norms_without_numbers_of_one_width_stay_where_they_are(tmp_path: Path) -> None:
    """Nothing tells which weights they belong to."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = (nn.Conv2d(16, 16, 1) for _ in range(3))
            self.x, self.y, self.z = (nn.BatchNorm2d(16) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.x(self.a(x)).relu()
            x = self.y(self.b(x)).relu()
            normed: torch.Tensor = self.z(self.c(x))
            return normed

    assert anatomy(settle(Net(), 16, 8, 8), tmp_path).agreement is None


def _saved(model: nn.Module, folder: Path) -> Path:
    torch.save(model.state_dict(), folder / "model.pt")
    return folder / "model.pt"
