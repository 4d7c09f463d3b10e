"""In which order the modules of a block run, where names and shapes leave it open."""

from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck.rules.rule import CannotTell, Subject
from normcheck.rules.statistics.foreign_stats import check
from tests.norms.settled import anatomy, settle

pytestmark = [pytest.mark.slow, pytest.mark.kernels]


class _Block(nn.Module):
    """Registers its norms first, and runs them behind or before their convolutions."""

    def __init__(self, made_of: int, makes: int, *, before: bool) -> None:
        super().__init__()
        self.before = before
        self.bn1 = nn.BatchNorm2d(made_of if before else makes)
        self.conv1 = nn.Conv2d(made_of, makes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(makes)
        self.conv2 = nn.Conv2d(makes, makes, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.before:
            return self.conv2(self.bn2(self.conv1(self.bn1(x).relu())).relu())
        return self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())).relu()


def _net(*widths: int, before: bool) -> nn.Module:
    blocks = [_Block(a, b, before=before) for a, b in pairwise(widths)]
    return settle(nn.Sequential(nn.Conv2d(3, widths[0], 3), *blocks), 3, 16, 16)


def _targets(model: nn.Module, folder: Path) -> set[tuple[str, str]]:
    agreement = anatomy(model, folder).agreement
    assert agreement is not None
    return {(f.link.source.path, f.link.target.path) for f in agreement.fits}


@pytest.mark.parametrize("before", [False, True], ids=["behind", "before"])
@pytest.mark.parametrize("widths", [(32, 32, 64, 64), (24, 24, 32, 32)])
def test_a_change_of_width_proves_the_order(
    tmp_path: Path, before: bool, widths: tuple[int, ...]
) -> None:
    """Blocks of the same names run alike; healthy ones fit and are not accused."""
    model = _net(*widths, before=before)
    within = {(f"{n}.bn1", f"{n}.bn2") for n in (1, 2, 3)}
    assert within <= _targets(model, tmp_path)
    agreement = anatomy(model, tmp_path).agreement
    assert agreement is not None
    inside = [f for f in agreement.fits if f.link.target.path.endswith("bn2")]
    assert min(f.explained for f in inside) > 0.8
    with suppress(CannotTell):
        assert list(check(Subject(anatomy(model, tmp_path)))) == []


def test_a_fault_does_not_choose_the_order(tmp_path: Path) -> None:
    """Means of the wrong sign fit neither order: the shapes tell which one counts."""
    model = _net(32, 32, 64, 64, before=False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.neg_()  # type: ignore[union-attr,operator]
    (finding,) = check(Subject(anatomy(model, tmp_path)))
    assert finding.discriminator == "sign"
