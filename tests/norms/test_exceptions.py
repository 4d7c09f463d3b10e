"""One link of a model that reads otherwise than its others: an activation of its own, or turned."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck.findings import Severity
from normcheck.norms.belonging.structure.link import WeightStructure
from normcheck.runs.scan import scan
from tests.norms.settled import anatomy, reorder, settle

pytestmark = pytest.mark.kernels

WIDTH = 32


class FeedForward(nn.Module):
    """A transformer's block with BatchNorm: a residual stream, then two layers of two norms."""

    def __init__(self) -> None:
        """With names that count layers, not blocks."""
        super().__init__()
        self.embed, self.norm0 = nn.Linear(8, WIDTH), nn.BatchNorm1d(WIDTH)
        self.mix = nn.Linear(WIDTH, WIDTH)
        self.norm1 = nn.BatchNorm1d(WIDTH)
        self.fc1, self.norm2 = nn.Linear(WIDTH, 2 * WIDTH), nn.BatchNorm1d(2 * WIDTH)
        self.fc2, self.norm3 = nn.Linear(2 * WIDTH, WIDTH), nn.BatchNorm1d(WIDTH)
        self.out = nn.Linear(WIDTH, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """No activation between ``norm1`` and ``fc1``, a ReLU between ``norm2`` and ``fc2``."""
        tokens = self.norm0(self.embed(x))
        tokens = self.norm1(tokens + self.mix(tokens).tanh())
        tokens = tokens + self.norm3(self.fc2(self.norm2(self.fc1(tokens)).relu()))
        scores: torch.Tensor = self.out(tokens)
        return scores


@pytest.mark.parametrize("seed", range(4))
def test_two_places_of_one_name(tmp_path: Path, seed: int) -> None:
    """``norm1``, ``fc1``, ``norm2``, ``fc2``: each link is explained, and nothing is accused."""
    torch.manual_seed(seed)
    model = settle(FeedForward(), 8, seed=seed)
    agreement = anatomy(model, tmp_path).agreement
    assert agreement is not None
    by_target = {fit.link.target.path: fit for fit in agreement.fits}
    assert by_target["norm2"].activation == "no activation"
    assert by_target["norm2"].explained > 0.95
    assert by_target["norm3"].explained > 0.9
    assert not [f for f in scan([tmp_path / "model.pt"]).findings if f.severity.rank]


@pytest.mark.parametrize("factor", [0.3, 1.4, 2.0])
def test_other_units_behind_two_activations(tmp_path: Path, factor: float) -> None:
    """Two matrices of one block, each by the same factor under the activation before it."""
    found = 0
    for seed in range(8):
        torch.manual_seed(seed)
        model = settle(FeedForward(), 8, seed=seed)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.mul_(factor)
            elif name.endswith("running_var"):
                buffer.mul_(factor**2)
        anatomy(model, tmp_path)
        accused = [f.rule for f in scan([tmp_path / "model.pt"]).findings if f.severity.rank]
        found += accused == ["NC108"]
    assert found >= 6


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("norm", ["norm2", "norm3"])
def test_an_exception_excuses_no_other_statistics(tmp_path: Path, norm: str, seed: int) -> None:
    """Channels in another order fit under none of the activations."""
    torch.manual_seed(seed)
    state = settle(FeedForward(), 8, seed=seed).state_dict()
    reorder(state, norm)
    torch.save(state, tmp_path / "model.pt")
    found = scan([tmp_path / "model.pt"]).findings
    assert [f.rule for f in found if f.severity is not Severity.INFO] == ["NC108"]


def _generator() -> nn.Sequential:
    """Of images from noise: one transposed convolution with square weights, one without."""
    return nn.Sequential(
        nn.BatchNorm2d(WIDTH),
        nn.ConvTranspose2d(WIDTH, WIDTH, 3, stride=2, padding=1, output_padding=1),
        nn.BatchNorm2d(WIDTH),
        nn.ReLU(),
        nn.ConvTranspose2d(WIDTH, WIDTH // 2, 3, stride=2, padding=1, output_padding=1),
        nn.BatchNorm2d(WIDTH // 2),
        nn.ReLU(),
        nn.Conv2d(WIDTH // 2, 1, 3, padding=1),
    )


def _autoencoder() -> nn.Sequential:
    """Convolutions and transposed ones, all of them with square weights."""
    parts: list[nn.Module] = [nn.Conv2d(3, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU()]
    for _ in range(3):
        parts += [nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU()]
    up = nn.ConvTranspose2d(WIDTH, WIDTH, 4, stride=2, padding=1)
    return nn.Sequential(*parts, up, nn.BatchNorm2d(WIDTH), nn.ReLU(), nn.Conv2d(WIDTH, 3, 1))


TURNED = [(_generator, (WIDTH, 7, 7), "2"), (_autoencoder, (3, 12, 12), "13")]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("build", "shape", "norm"), TURNED)
def test_one_square_transposed_convolution_among_others(
    tmp_path: Path, build: Callable[[], nn.Module], shape: tuple[int, ...], norm: str, seed: int
) -> None:
    """A state dict does not tell its orientation: the numbers do, of this link alone."""
    torch.manual_seed(seed)
    agreement = anatomy(settle(build(), *shape, seed=seed), tmp_path).agreement
    assert agreement is not None
    by_target = {fit.link.target.path: fit for fit in agreement.fits}
    assert by_target[norm].link.kind is WeightStructure.TRANSPOSED
    assert by_target[norm].explained > 0.9
    assert not [f for f in scan([tmp_path / "model.pt"]).findings if f.severity.rank]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("build", "shape", "norm"), TURNED)
def test_either_orientation_excuses_no_other_statistics(
    tmp_path: Path, build: Callable[[], nn.Module], shape: tuple[int, ...], norm: str, seed: int
) -> None:
    """Channels in another order fit in neither."""
    torch.manual_seed(seed)
    state = settle(build(), *shape, seed=seed).state_dict()
    reorder(state, norm)
    torch.save(state, tmp_path / "model.pt")
    report = scan([tmp_path / "model.pt"])
    assert report.models[0].agreement is not None
    assert norm not in report.models[0].agreement.agreeing
    # Of the generator's two links one alone is left, which is but seldom enough to accuse.
    loud = [f.rule for f in report.findings if f.severity is not Severity.INFO]
    assert loud == ["NC108"] or build is _generator


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("build", "shape", "norm"), TURNED)
def test_a_transposed_convolution_whose_means_follow_loosely(
    tmp_path: Path, build: Callable[[], nn.Module], shape: tuple[int, ...], norm: str, seed: int
) -> None:
    """As behind a decoder that two branches share: a tenth of the means has another origin."""
    torch.manual_seed(seed)
    state = settle(build(), *shape, seed=seed).state_dict()
    mean = state[f"{norm}.running_mean"]
    mean += mean.square().mean().sqrt() * torch.randn(mean.shape) / 3
    torch.save(state, tmp_path / "model.pt")
    report = scan([tmp_path / "model.pt"])
    agreement = report.models[0].agreement
    assert agreement is not None
    assert not [f for f in report.findings if f.severity.rank]
