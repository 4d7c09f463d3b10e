"""Norms behind joins, skips and split blocks: what vouches for them, and what does not."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from normcheck.norms.belonging.agreement import Agreement

from .settled import SICK, anatomy, settle, sick

pytestmark = [pytest.mark.slow, pytest.mark.kernels]
SEEDS = range(2)


class Unit(nn.Module):
    """Convolution, norm, ReLU."""

    def __init__(self, takes: int, makes: int, size: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(takes, makes, size, padding=size // 2, bias=False)
        self.bn = nn.BatchNorm2d(makes)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.bn(self.conv(x)).relu()
        return made


class Branches(nn.Module):
    """Branches of one, two and three units, joined."""

    def __init__(self, takes: int) -> None:
        super().__init__()
        self.branch1 = Unit(takes, 24, 1)
        self.branch2 = nn.Sequential(Unit(takes, 16, 1), Unit(16, 24))
        self.branch3 = nn.Sequential(Unit(takes, 16, 1), Unit(16, 24), Unit(24, 32))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.children()], 1)


class Split(nn.Module):
    """Two halves, of which one goes through parts that add up."""

    def __init__(self, takes: int, makes: int) -> None:
        super().__init__()
        half = makes // 2
        self.cv1, self.cv2 = Unit(takes, makes, 1), Unit(4 * half, makes, 1)
        self.m = nn.ModuleList(nn.Sequential(Unit(half, half), Unit(half, half)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        made = list(self.cv1(x).chunk(2, 1))
        for part in self.m:
            made.append(made[-1] + part(made[-1]))
        joined: Tensor = self.cv2(torch.cat(made, 1))
        return joined


class Skips(nn.Module):
    """Down, up without weights, and joins across."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Sequential(Unit(3, 24), Unit(24, 24))
        self.down2 = nn.Sequential(Unit(24, 40), Unit(40, 40))
        self.down3 = nn.Sequential(Unit(40, 56), Unit(56, 56))
        self.up2 = nn.Sequential(Unit(96, 40), Unit(40, 40))
        self.up1 = nn.Sequential(Unit(64, 24), Unit(24, 24))

    def forward(self, x: Tensor) -> Tensor:
        up, down = nn.Upsample(scale_factor=2), nn.AvgPool2d(2)
        one = self.down1(x)
        two = self.down2(down(one))
        made = self.up2(torch.cat([two, up(self.down3(down(two)))], 1))
        last: Tensor = self.up1(torch.cat([one, up(made)], 1))
        return last


BUILT: dict[str, tuple[Callable[[], nn.Module], set[str]]] = {
    "branches": (
        lambda: nn.Sequential(Unit(3, 24), Unit(24, 28), Branches(28), Branches(80), Unit(80, 32)),
        {"3.branch1.bn", "3.branch2.0.bn", "3.branch3.0.bn", "4.bn"},
    ),
    "split": (
        lambda: nn.Sequential(Unit(3, 40), Unit(40, 40), Split(40, 40), Unit(40, 48), Unit(48, 48)),
        {"2.cv2.bn", "2.m.0.0.bn", "2.m.1.0.bn", "3.bn"},
    ),
    "skips": (Skips, {"up2.0.bn", "up1.0.bn"}),
}
"""Networks, and the norms that something joined or from elsewhere reaches."""


def _settled(name: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return settle(BUILT[name][0](), 3, 16, 16, seed=seed)


def _agreement(model: nn.Module, folder: Path) -> Agreement:
    found = anatomy(model, folder).agreement
    assert found is not None
    return found


def _joined(model: nn.Module, folder: Path) -> set[str]:
    return {fit.link.target.path for fit in _agreement(model, folder).by_sums}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", BUILT)
def test_norms_behind_joins_are_vouched_for(tmp_path: Path, name: str, seed: int) -> None:
    """All but one of them at most: deep ones are less normal."""
    behind = BUILT[name][1]
    assert len(_joined(_settled(name, seed), tmp_path) & behind) >= len(behind) - 1


@pytest.mark.parametrize("fault", SICK)
def test_sick_norms_are_not(tmp_path: Path, fault: str) -> None:
    """Norm by norm, over structures: however many sources are tried."""
    still = asked = 0
    for name in BUILT:
        model = _settled(name, 0)
        for path in _joined(model, tmp_path):
            with sick(model.get_submodule(path), fault):
                vouched = {fit.link.target.path for fit in _agreement(model, tmp_path).agreeing}
            still += path in vouched
            asked += 1
    assert asked >= 8
    # A factor of 0.7 may stand beside a healthy one of 1.15.
    assert 10 * still <= asked


@pytest.mark.parametrize("name", BUILT)
def test_statistics_of_another_seed_are_not(tmp_path: Path, name: str) -> None:
    """Weights of one training, statistics of the other."""
    model, other = _settled(name, 0), _settled(name, 7).state_dict()
    state = model.state_dict()
    model.load_state_dict({k: other[k] if "running" in k else v for k, v in state.items()})
    assert not _joined(model, tmp_path)
