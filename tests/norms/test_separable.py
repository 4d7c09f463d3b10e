"""Convolutions in two parts, with nothing between them: what vouches through both."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from normcheck.norms.belonging.structure.link import WeightStructure
from normcheck.norms.layer import Confidence
from normcheck.rules.evidence.belonging_evidence import readings
from normcheck.rules.rule import Subject
from normcheck.rules.statistics.foreign_stats import check

from .settled import CHANNELS, SICK, anatomy, settle, sick, sicken

pytestmark = [pytest.mark.slow, pytest.mark.kernels]
SEEDS = range(3)
BLOCKS = 5


class TwoParts(nn.Module):
    """A separable convolution: one for each channel, then one over them, or the other way round."""

    def __init__(self, takes: int, makes: int, *, ahead: bool, bias: bool, times: int = 1) -> None:
        super().__init__()
        inner = takes * times if ahead else makes
        deep = nn.Conv2d(inner // times if ahead else makes, inner, 3, padding=1, bias=bias,
                         groups=takes if ahead else makes)  # fmt: skip
        point = nn.Conv2d(inner if ahead else takes, makes, 1, bias=bias)
        self.first, self.second = (deep, point) if ahead else (point, deep)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.second(self.first(x))
        return made


def _network(*, ahead: bool = True, bias: bool = False, times: int = 1) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(3, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS)]
    for _ in range(BLOCKS):
        both = TwoParts(CHANNELS, CHANNELS, ahead=ahead, bias=bias, times=times)
        layers += [nn.ReLU(), both, nn.BatchNorm2d(CHANNELS)]
    return nn.Sequential(*layers)


def _vouched(model: nn.Module, folder: Path) -> set[str]:
    agreement = anatomy(model, folder).agreement
    assert agreement is not None
    for fit in agreement.fits:
        assert fit.link.kind is WeightStructure.SEPARABLE
    return {fit.link.target.path for fit in agreement.agreeing}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("ahead", "times"), [(True, 1), (True, 2), (False, 1)])
def test_healthy_layers_are_vouched_for(
    tmp_path: Path, ahead: bool, times: int, bias: bool, seed: int
) -> None:
    """The kernel of both parts predicts means as that of one convolution does."""
    torch.manual_seed(seed)
    model = settle(_network(ahead=ahead, bias=bias, times=times), 3, 16, 16, seed=seed)
    assert len(_vouched(model, tmp_path)) >= BLOCKS - 1


@pytest.mark.parametrize("name", SICK)
def test_sick_layers_are_not(tmp_path: Path, name: str) -> None:
    """Layer by layer, over seeds."""
    still = asked = 0
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = settle(_network(), 3, 16, 16, seed=seed)
        healthy = _vouched(model, tmp_path)
        for path in healthy:
            with sick(model.get_submodule(path), name):
                still += path in _vouched(model, tmp_path)
            asked += 1
    assert asked >= 12
    assert still == 0


def test_nothing_is_taken_for_one_convolution_that_has_a_place_between(tmp_path: Path) -> None:
    """Numbers of a Sequential that leave room for an activation, or weights of two blocks."""
    torch.manual_seed(0)
    apart = nn.Sequential(
        nn.Conv2d(3, CHANNELS, 3), nn.BatchNorm2d(CHANNELS), nn.ReLU(),
        nn.Conv2d(CHANNELS, CHANNELS, 3, groups=CHANNELS), nn.ReLU(), nn.Conv2d(CHANNELS, 48, 1),
        nn.BatchNorm2d(48),
    )  # fmt: skip
    assert anatomy(settle(apart, 3, 16, 16), tmp_path).agreement is None


def test_whole_modules_tell_the_activation_before_both(tmp_path: Path) -> None:
    """The one that the tree has between the norm and the first part."""
    torch.manual_seed(0)
    found = anatomy(settle(_network(), 3, 16, 16), tmp_path, whole=True).agreement
    assert found is not None
    assert found.activation == "ReLU"
    assert len(found.agreeing) >= BLOCKS - 1


def _in_a_sequential(size: int = 3, stride: int = 1) -> nn.Sequential:
    """Both parts beside their norms, each in its place."""
    layers: list[nn.Module] = [nn.Conv2d(3, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS)]
    for block in range(BLOCKS):
        steps = stride if block % 2 else 1
        deep = nn.Conv2d(CHANNELS, CHANNELS, size, steps, size // 2, groups=CHANNELS)
        layers += [nn.ReLU(), deep, nn.Conv2d(CHANNELS, CHANNELS, 1), nn.BatchNorm2d(CHANNELS)]
    return nn.Sequential(*layers)


def _accused(model: nn.Module, folder: Path) -> bool:
    found = anatomy(model, folder)
    return any(reading.speaks for reading in readings(found.agreement, found.first))


@pytest.mark.parametrize("name", ["permuted", "60 %", "negated"])
def test_places_of_a_sequential_make_both_parts_certain(tmp_path: Path, name: str) -> None:
    """Nothing has room between them: what does not fit then accuses."""
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = settle(_in_a_sequential(), 3, 16, 16, seed=seed)
        agreement = anatomy(model, tmp_path).agreement
        assert agreement is not None
        assert {f.link.recognition.confidence for f in agreement.fits} == {Confidence.HIGH}
        assert not _accused(model, tmp_path)
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                sicken(norm, name)
        assert list(check(Subject(anatomy(model, tmp_path))))


@pytest.mark.parametrize("pixels", [1, 2, 3, 4, 8])
@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (5, 1)])
def test_healthy_ones_on_small_maps_accuse_nobody(
    tmp_path: Path, size: int, stride: int, pixels: int
) -> None:
    """Which taps meet the map is not known of them."""
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = settle(_in_a_sequential(size, stride), 3, pixels, pixels, seed=seed)
        assert not _accused(model, tmp_path)


def test_one_over_channels_first_only_vouches(tmp_path: Path) -> None:
    """A depthwise part that comes last evens nothing out."""
    layers: list[nn.Module] = [nn.Conv2d(3, CHANNELS, 3), nn.BatchNorm2d(CHANNELS)]
    for _ in range(BLOCKS):
        layers += [nn.ReLU(), nn.Conv2d(CHANNELS, CHANNELS, 1)]
        layers += [nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS)]
        layers += [nn.BatchNorm2d(CHANNELS)]
    agreement = anatomy(settle(nn.Sequential(*layers), 3, 16, 16), tmp_path).agreement
    assert agreement is not None
    assert {f.link.recognition.confidence for f in agreement.fits} == {Confidence.LOW}
