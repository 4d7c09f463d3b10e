"""How many samples the stored variances of a layer are worth."""

from __future__ import annotations

from math import inf

import pytest
import torch
from torch import Tensor, nn

from normcheck.live.batches import Batch, Feed
from normcheck.live.measurement import Drift
from normcheck.live.probes.drifts import drifts_of
from normcheck.live.watching.forward import Forward
from normcheck.live.watching.input_moments import Collected
from normcheck.live.watching.reachable_modules import reachable
from normcheck.live.watching.regimes import Regimes

pytestmark = pytest.mark.kernels

CHANNELS, SAMPLES = 64, 256


def images(count: int, seed: int) -> Tensor:
    """Images whose contrast varies from one to the next, each channel's in its own way."""
    made = torch.Generator().manual_seed(seed)
    contrast = (0.5 * torch.randn(count, CHANNELS, 1, 1, generator=made)).exp()
    return contrast * torch.randn(count, CHANNELS, 4, 4, generator=made)


def drift_of(norm: nn.BatchNorm2d, x: Tensor) -> Drift:
    """Of a model that is one norm."""
    regimes = Regimes(Forward(norm.eval(), torch.device("cpu")), reachable(norm), set())
    feed = Feed((Batch((x,)),), "", True, batch_size=len(x))
    evaluated, batchwise = Collected(measures=False), Collected()
    regimes.stored(feed, evaluated)
    regimes.batch(feed, batchwise)
    (drift,) = drifts_of(batchwise, evaluated, list(evaluated.stored), frozenset())
    return drift


def norm_of(x: Tensor) -> nn.BatchNorm2d:
    """A norm with the statistics of these images."""
    norm = nn.BatchNorm2d(CHANNELS, momentum=1.0).train()
    norm(x)
    return norm


@pytest.mark.parametrize("count", [32, 64, 256])
def test_statistics_of_few_samples_are_worth_as_many(count: int) -> None:
    """By the median over several draws, to two fifths."""
    found = [
        drift_of(norm_of(images(count, seed)), images(SAMPLES, 100 + seed)).worth
        for seed in range(9)
    ]
    assert sorted(found)[4] == pytest.approx(count, rel=0.4)


def test_the_data_s_own_statistics_are_worth_any_number() -> None:
    """Nothing is off."""
    x = images(SAMPLES, 1)
    assert drift_of(norm_of(x), x).worth == inf


def test_a_channel_that_is_far_off_does_not_speak_for_all() -> None:
    """It is told by its own bound; and one without any variance tells nothing."""
    norm, x = norm_of(images(8000, 1)), images(SAMPLES, 2)
    right = drift_of(norm, x).worth
    assert right > 600
    with torch.no_grad():
        assert norm.running_var is not None
        norm.running_var[3] *= 40
    assert drift_of(norm, x).worth > 300
    x[:, 5] = 0
    with torch.no_grad():
        assert norm.running_mean is not None
        norm.running_mean[5], norm.running_var[5] = 0.0, 0.0
    assert drift_of(norm, x).worth > 300
