"""Deviations and inverses in the place of variances, told through two layers of weights."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from normcheck.norms.belonging.two_layers import two_layers
from normcheck.norms.layer import Confidence
from normcheck.rules.evidence.evidence_apart import Indication
from normcheck.rules.evidence.variance_spread import MOST_CHANNELS, of_spreads
from tests.norms.settled import CHANNELS, anatomy, conv_net, settle

pytestmark = [pytest.mark.slow, pytest.mark.kernels]
SEEDS = range(5)
SIZE = 16


class Block(nn.Module):
    """Two convolutions beside what they are added to."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(CHANNELS)
        self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(y)) + x).relu()


def _grouped() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS)]
    for _ in range(4):
        layers += [nn.SiLU(), nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=4)]
        layers += [nn.BatchNorm2d(CHANNELS)]
    return nn.Sequential(*layers)


def _depthwise() -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(3, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS)]
    for _ in range(3):
        layers += [nn.ReLU(), nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS)]
        layers += [nn.BatchNorm2d(CHANNELS), nn.ReLU(), nn.Conv2d(CHANNELS, CHANNELS, 1)]
        layers += [nn.BatchNorm2d(CHANNELS)]
    return nn.Sequential(*layers)


def _residual() -> nn.Module:
    stem = nn.Sequential(nn.Conv2d(3, CHANNELS, 3, padding=1), nn.BatchNorm2d(CHANNELS), nn.ReLU())
    return nn.Sequential(stem, *(Block() for _ in range(4)))


STYLES: Mapping[str, Callable[[], nn.Module]] = {
    "plain": lambda: conv_net(nn.ReLU(), blocks=5),
    "tanh": lambda: conv_net(nn.Tanh(), blocks=5),
    "grouped": _grouped,
    "depthwise": _depthwise,
    "residual": _residual,
}
FAULTS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "deviations": torch.sqrt,
    "inverses": torch.reciprocal,
    "inverse deviations": torch.rsqrt,
}


def _smooth(model: nn.Module, seed: int) -> nn.Module:
    """Kernels whose taps go together, as trained ones do, and γ of both signs."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                shared = torch.randn(*module.weight.shape[:2], 1, 1)
                module.weight.add_(module.weight.std() * shared)
    settle(model, 3, SIZE, SIZE, seed=seed)
    return model


def _read(model: nn.Module, folder: Path) -> Indication | None:
    agreement = anatomy(model, folder).agreement
    assert agreement is not None
    sure = [f for f in agreement.likely if f.link.recognition.confidence is Confidence.HIGH]
    (found,) = of_spreads(sure) or (None,)
    return found


@pytest.mark.parametrize("style", STYLES)
def test_variances_spread_as_two_layers_of_weights_make_them(tmp_path: Path, style: str) -> None:
    """Of healthy networks none speaks; of those with something else in their place most do.

    Means of many inputs that go together vary more than predicted, by up to half: of deviations,
    whose spread is half of it, that hides some.
    """
    speaks = dict.fromkeys(FAULTS, 0)
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = _smooth(STYLES[style](), seed)
        healthy = _read(model, tmp_path)
        assert healthy is None or not healthy.speaks
        kept = {k: v.clone() for k, v in model.state_dict().items()}
        for name, fault in FAULTS.items():
            model.load_state_dict(
                {k: fault(v) if k.endswith("running_var") else v for k, v in kept.items()}
            )
            found = _read(model, tmp_path)
            speaks[name] += found is not None and found.speaks
            assert found is None or "logarithms' spread (" in found.sentence
        model.load_state_dict(kept)
    assert min(speaks["inverses"], speaks["inverse deviations"]) >= len(SEEDS) - 1
    if style in ("grouped", "depthwise"):
        assert speaks["deviations"] >= len(SEEDS) - 1


def test_the_weights_before_make_channels_go_together(tmp_path: Path) -> None:
    """Variances are predicted better than by channels that are independent."""
    better = 0
    for seed in SEEDS:
        torch.manual_seed(seed)
        agreement = anatomy(_smooth(STYLES["plain"](), seed), tmp_path).agreement
        assert agreement is not None
        for fit in agreement.fits:
            both = two_layers(fit, MOST_CHANNELS)
            assert both is not None
            found = both.spread()
            assert found is not None
            better += found.correlation > fit.scale_correlation
    assert better >= 4 * len(SEEDS) * 0.8


@pytest.mark.parametrize("size", [1, 2, 3])
def test_maps_of_a_few_pixels_tell_nothing(tmp_path: Path, size: int) -> None:
    """Most taps of two kernels meet nothing there."""
    model = settle(conv_net(nn.ReLU(), blocks=5), 3, size, size)
    assert _read(model, tmp_path) is None


def test_weights_that_are_not_right_before_the_norm_are_not_taken(tmp_path: Path) -> None:
    """Where a Sequential leaves a place between, the norm may have recorded something else."""
    for between in ([], [nn.Identity()]):
        layers: list[nn.Module] = []
        for block in range(4):
            made_of = 3 if block == 0 else CHANNELS
            layers += [nn.Conv2d(made_of, CHANNELS, 3, padding=1), *between]
            layers += [nn.BatchNorm2d(CHANNELS), nn.ReLU()]
        agreement = anatomy(settle(nn.Sequential(*layers), 3, SIZE, SIZE), tmp_path).agreement
        assert agreement is not None
        assert {fit.link.before is None for fit in agreement.fits} == {bool(between)}
