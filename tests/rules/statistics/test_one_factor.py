"""NC108 by one factor between means and weights, where few links tell it."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck.findings import Finding
from normcheck.norms.belonging.agreement import Agreement
from normcheck.norms.layer import Confidence, Recognition
from normcheck.rules.evidence.belonging_evidence import readings
from normcheck.rules.rule import CannotTell, Subject
from normcheck.rules.statistics.foreign_stats import check
from tests.norms.settled import anatomy, conv_net, settle

pytestmark = [pytest.mark.slow, pytest.mark.kernels]
Norm = nn.modules.batchnorm._BatchNorm


def _in_other_units(model: nn.Module, factor: float) -> None:
    for module in model.modules():
        if isinstance(module, Norm):
            module.running_mean.mul_(factor)  # type: ignore[union-attr]
            module.running_var.mul_(factor**2)  # type: ignore[union-attr]


def _found(model: nn.Module, folder: Path) -> list[Finding]:
    with suppress(CannotTell):
        return list(check(Subject(anatomy(model, folder))))
    return []


def _speaking(model: nn.Module, folder: Path) -> set[str]:
    found = anatomy(model, folder)
    return {r.key for r in readings(found.agreement, found.first) if r.speaks}


def _upsampling() -> nn.Sequential:
    parts: list[nn.Module] = [nn.Conv2d(3, 32, 1), nn.BatchNorm2d(32), nn.ReLU()]
    for _ in range(3):
        parts += [nn.ConvTranspose2d(32, 32, 4, 2, 1), nn.BatchNorm2d(32), nn.ReLU()]
    return nn.Sequential(*parts)


class _Vectors(nn.Module):
    """Two norms in one block, of which one link is known."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.norm1 = nn.Linear(20, 48), nn.BatchNorm1d(48)
        self.fc2, self.norm2 = nn.Linear(48, 48), nn.BatchNorm1d(48)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm2(self.fc2(self.norm1(self.fc1(x)).relu()))


MODELS = {
    "two links in a Sequential": (lambda: conv_net(nn.ReLU(), blocks=3), (3, 16, 16)),
    "transposed": (_upsampling, (3, 2, 2)),
    "one matrix": (_Vectors, (20,)),
}


@pytest.mark.parametrize("name", MODELS)
def test_healthy_models_have_no_factor(tmp_path: Path, name: str) -> None:
    """On an image of two pixels as well, of which a kernel sees the border everywhere."""
    build, shape = MODELS[name]
    model = settle(build(), *shape)  # type: ignore[operator]
    assert _speaking(model, tmp_path) == set()
    assert _found(model, tmp_path) == []


@pytest.mark.parametrize("factor", [0.4, 2.0])
@pytest.mark.parametrize("name", MODELS)
def test_other_units_show_in_few_links(tmp_path: Path, name: str, factor: float) -> None:
    """Means follow the weights closely, but not by a factor of 1."""
    build, shape = MODELS[name]
    model = settle(build(), *shape)  # type: ignore[operator]
    _in_other_units(model, factor)
    assert _found(model, tmp_path)


class _HiddenPools(nn.Module):
    """Names of one block throughout, and a pooling behind every second norm."""

    def __init__(self, *, pooled: bool = True) -> None:
        super().__init__()
        self.pooled = pooled
        for number in range(1, 6):
            setattr(self, f"conv{number}", nn.Conv2d(3 if number == 1 else 32, 32, 3, padding=1))
            setattr(self, f"bn{number}", nn.BatchNorm2d(32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for number in range(1, 6):
            x = getattr(self, f"bn{number}")(getattr(self, f"conv{number}")(x)).relu()
            if self.pooled and number % 2:
                x = nn.functional.max_pool2d(x, 2)
        return x


def test_a_pooling_that_no_name_tells_is_no_factor(tmp_path: Path) -> None:
    """It moves some factors up; names alone do not make a link certain enough for a quarter."""
    model = settle(_HiddenPools(), 3, 32, 32)
    assert _found(model, tmp_path) == []


@pytest.mark.parametrize("left", [0.7, 0.95])
def test_small_means_tell_a_factor_too(tmp_path: Path, left: float) -> None:
    """What a rest of the initial value leaves of the means follows the weights exactly."""
    model = settle(conv_net(nn.ReLU(), blocks=3), 3, 16, 16)
    for module in model.modules():
        if isinstance(module, Norm):
            module.running_mean.mul_(1 - left)  # type: ignore[union-attr]
            module.running_var.mul_(1 - left).add_(left)  # type: ignore[union-attr]
    assert "one factor" in _speaking(model, tmp_path)
    assert _found(model, tmp_path)


def test_weights_that_went_far_leave_their_means_loosely_behind(tmp_path: Path) -> None:
    """Half of what the weights are now was not there when the means were collected."""
    model = settle(conv_net(nn.ReLU(), blocks=6), 3, 16, 16)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                step = torch.randn(module.weight.shape, generator=generator)
                module.weight.add_(step * module.weight.norm() / step.norm())
    assert "means apart" in _speaking(model, tmp_path)
    assert _found(model, tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_a_factor_of_each_layers_own_is_not_one_factor(tmp_path: Path, seed: int) -> None:
    """As behind inputs with heavy tails, where each layer's means are smaller by another factor."""
    model = settle(_HiddenPools(pooled=False), 3, 16, 16, seed=seed)
    for number, factor in enumerate((1.0, 0.2, 0.5, 0.78, 0.35), start=1):
        norm = getattr(model, f"bn{number}")
        norm.running_mean.mul_(factor)
        norm.running_var.mul_(1.4)
    assert "one factor" not in _speaking(model, tmp_path)
    assert not {f.discriminator for f in _found(model, tmp_path)} & {"factor", "initial value"}


@pytest.mark.parametrize(
    ("slopes", "speaks"),
    [
        ((1.5, 1.5, 1.5, 1.5), True),
        ((1.5, 1.6, 1.4, 3.0), True),
        ((1.5, 1.6, 1.4, 1.0), False),
        ((1.3, 2.0, 1.3, 3.0), False),
        ((0.6, 0.6, 0.5, 0.2), False),
    ],
)
def test_one_link_of_four_may_be_further_off(
    tmp_path: Path, slopes: tuple[float, ...], speaks: bool
) -> None:
    """A link that is too large by more hides no factor of the others; small ones differ anyway."""
    agreement = anatomy(settle(conv_net(nn.ReLU(), blocks=5), 3, 16, 16), tmp_path).agreement
    assert agreement is not None
    by_name = Recognition(Confidence.HIGH, "neighbours in one block")
    fits = [
        replace(fit, slope=slope, link=replace(fit.link, recognition=by_name))
        for fit, slope in zip(agreement.fits, slopes, strict=True)
    ]
    found = readings(Agreement(tuple(fits), "ReLU", ()), None)
    assert speaks == ("one factor" in {one.key for one in found if one.speaks})
