"""Predicting running statistics from weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from normcheck.norms.belonging.agreement import Agreement

from .settled import CHANNELS, anatomy, conv_net, reorder, settle

pytestmark = [pytest.mark.slow, pytest.mark.kernels]


def _agreement(model: nn.Module, folder: Path, *shape: int) -> Agreement:
    found = anatomy(settle(model, *shape), folder).agreement
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("activation", "name"),
    [
        (nn.ReLU(), "ReLU"),
        (nn.Identity(), "no activation"),
        (nn.SiLU(), "SiLU"),
        (nn.Hardswish(), "hardswish"),
        (nn.LeakyReLU(0.2), "leaky ReLU 0.2"),
        (nn.Tanh(), "tanh"),
        (nn.PReLU(CHANNELS, 0.4), "PReLU"),
    ],
)
def test_the_activation_is_recognised(tmp_path: Path, activation: nn.Module, name: str) -> None:
    """The weights explain nearly everything, under the activation that was really there."""
    agreement = _agreement(conv_net(activation), tmp_path, 3, 16, 16)
    assert agreement.activation == name
    assert len(agreement.fits) == 3
    assert min(fit.explained for fit in agreement.fits) > 0.95
    assert all(abs(fit.slope - 1) < 0.1 for fit in agreement.fits)


@pytest.mark.parametrize("activation", [nn.GELU(), nn.ELU(), nn.Mish(), nn.ReLU6()])
def test_similar_activations_fit_as_well(tmp_path: Path, activation: nn.Module) -> None:
    """Where two activations can hardly be told apart, the fit is good all the same."""
    agreement = _agreement(conv_net(activation), tmp_path, 3, 16, 16)
    assert min(fit.explained for fit in agreement.fits) > 0.9


def _chain(norm: type[nn.Module], *weights: nn.Module) -> nn.Sequential:
    layers: list[nn.Module] = [norm(CHANNELS), nn.ReLU()]
    for weight in weights:
        layers += [weight, norm(CHANNELS), nn.ReLU()]
    return nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        (_chain(nn.BatchNorm1d, nn.Linear(32, 32), nn.Linear(32, 32)), (32,)),
        (_chain(nn.BatchNorm1d, nn.Conv1d(32, 32, 5, padding=2)), (32, 40)),
        (_chain(nn.BatchNorm2d, nn.Conv2d(32, 32, 3, stride=2)), (32, 17, 17)),
        (_chain(nn.BatchNorm3d, nn.Conv3d(32, 32, 3, padding=1)), (32, 6, 6, 6)),
        (_chain(nn.BatchNorm2d, nn.Conv2d(32, 32, 3, groups=32, padding=1)), (32, 12, 12)),
        (_chain(nn.BatchNorm2d, nn.Conv2d(32, 32, 3, groups=4, padding=1)), (32, 12, 12)),
    ],
    ids=["linear", "conv1d", "strided conv2d", "conv3d", "depthwise", "grouped"],
)
def test_every_kind_of_weights_predicts(
    tmp_path: Path, model: nn.Module, shape: tuple[int, ...]
) -> None:
    """Linear and convolutions of all dimensions, biases included."""
    agreement = _agreement(model, tmp_path, *shape)
    assert agreement.fits
    assert min(fit.explained for fit in agreement.fits) > 0.95


def test_transposed_convolution_predicts(tmp_path: Path) -> None:
    """A generator's upsampling by two, as it is usually built."""
    model = nn.Sequential(
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 24, 4, 2, 1, bias=False),
        nn.BatchNorm2d(24),
    )
    agreement = _agreement(model, tmp_path, 32, 10, 10)
    assert agreement.fits[0].explained > 0.9


def test_the_variance_of_few_taps_is_divided_once(tmp_path: Path) -> None:
    """On a single pixel each output of a transposed convolution sees one tap of sixteen."""
    model = nn.Sequential(
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 24, 4, 1, 0, bias=False),
        nn.BatchNorm2d(24),
    )
    (fit,) = _agreement(model, tmp_path, 32, 1, 1).fits
    assert fit.explained > 0.9
    # Positions differ in their means, which adds to the variance; divided twice it were 2.2.
    assert abs(fit.log_scale) < 1.4


class _Pooled(nn.Module):
    """A max pooling after every activation, which a state dict does not show."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.conv2, self.bn2 = nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.conv3, self.bn3 = nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x):  # type: ignore[no-untyped-def]
        for conv, norm in (
            (self.conv1, self.bn1),
            (self.conv2, self.bn2),
            (self.conv3, self.bn3),
        ):
            x = self.pool(norm(conv(x)).relu())
        return x


def test_hidden_max_pooling_is_found(tmp_path: Path) -> None:
    """Means behind a pooling are explained by one, not called foreign."""
    agreement = _agreement(_Pooled(), tmp_path, 3, 32, 32)
    assert min(fit.explained for fit in agreement.fits) > 0.8
    assert all(fit.pool > 1 for fit in agreement.fits)


class _NormLast(nn.Module):
    """conv → ReLU → norm: stored means are those of rectified values."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.conv2, self.bn2 = nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32)

    def forward(self, x):  # type: ignore[no-untyped-def]
        return self.bn2(self.conv2(self.bn1(self.conv1(x).relu())).relu())


def test_norms_behind_the_activation_are_not_judged(tmp_path: Path) -> None:
    """The reason is given instead of a prediction that does not apply."""
    agreement = _agreement(_NormLast(), tmp_path, 3, 16, 16)
    assert agreement.fits == ()
    assert "behind the activation" in dict(agreement.unjudged)["bn2"]


def test_what_cannot_be_judged_is_listed(tmp_path: Path) -> None:
    """Every norm with statistics is either judged or listed with a reason."""
    agreement = _agreement(conv_net(nn.ReLU()), tmp_path, 3, 16, 16)
    judged = {fit.link.target.path for fit in agreement.fits}
    listed = {path for path, _ in agreement.unjudged}
    assert judged | listed == {"1", "4", "7", "10"}
    assert not judged & listed


def test_a_constant_channel_does_not_decide(tmp_path: Path) -> None:
    """A channel of variance 0 and a large mean weighs no more than a bounded one."""
    model = settle(conv_net(nn.ReLU()), 3, 16, 16)
    model[4].running_var[0] = 0.0  # type: ignore[union-attr,index,operator]
    agreement = anatomy(model, tmp_path).agreement
    assert agreement is not None
    assert np.median([fit.explained for fit in agreement.fits]) > 0.9


class _Discards(nn.Module):
    """A pre-activation block whose first norm runs to no effect, as in a published network."""

    def __init__(self, *, discards: bool) -> None:
        super().__init__()
        self.discards = discards
        self.bn1, self.conv1 = nn.BatchNorm2d(CHANNELS), nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)
        self.bn2, self.conv2 = nn.BatchNorm2d(CHANNELS), nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out = torch.relu(self.bn1(images))
        out = self.conv1(images if self.discards else out)
        return images + self.conv2(torch.relu(self.bn2(out)))


@pytest.mark.parametrize("discards", [True, False])
def test_a_norm_that_nothing_trained_predicts_nothing(tmp_path: Path, discards: bool) -> None:
    """Its γ and β are as they were built: what stands behind it in the file runs without it."""
    blocks = [_Discards(discards=discards) for _ in range(4)]
    model = settle(nn.Sequential(nn.Conv2d(3, CHANNELS, 3), *blocks), 3, 16, 16)
    if discards:
        for block in blocks:
            nn.init.ones_(block.bn1.weight)
            nn.init.zeros_(block.bn1.bias)
    agreement = anatomy(model, tmp_path).agreement
    fits = () if agreement is None else agreement.fits
    inside = [f for f in fits if f.link.target.path.endswith("bn2")]
    assert len(inside) == (0 if discards else 4)
    assert all(f.explained > 0.9 for f in inside)


def test_channels_that_are_quiet_beside_eps(tmp_path: Path) -> None:
    """What eps takes away does not reach the weights: of a variance as large as eps, half."""
    model = conv_net(nn.ReLU())
    with torch.no_grad():
        loudness = torch.logspace(-4, -1, CHANNELS)
        for block in (0, 3, 6):
            convolution = model[block]
            assert isinstance(convolution, nn.Conv2d)
            convolution.weight.mul_(loudness[torch.randperm(CHANNELS)].reshape(-1, 1, 1, 1))
    agreement = anatomy(settle(model, 3, 16, 16), tmp_path).agreement
    assert agreement is not None
    assert len(agreement.fits) == 3
    assert all(f.explained > 0.97 for f in agreement.fits)


def test_square_weights_behind_a_prelu_that_do_not_fit(tmp_path: Path) -> None:
    """Another reading of them is tried, with the slopes that the PReLU has."""
    parts: list[nn.Module] = []
    for _ in range(3):
        parts += [nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.PReLU(64)]
    model = settle(nn.Sequential(nn.Conv2d(3, 64, 1), nn.BatchNorm2d(64), *parts), 3, 8, 8)
    state = model.state_dict()
    reorder(state, "9")
    model.load_state_dict(state)
    agreement = anatomy(model, tmp_path).agreement
    assert agreement is not None
    explained = {f.link.target.path: f.explained for f in agreement.fits if f.activation == "PReLU"}
    assert explained["6"] > 0.9
    assert explained["9"] < 0.5
